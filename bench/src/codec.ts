import { writeFile } from 'node:fs/promises';
import { cpus, loadavg } from 'node:os';
import { parseArgs } from 'node:util';
import { type CodedCut, type Coder, makeCoders, missingCoders } from './coders.js';
import { computeFeatures, quantizeChannels } from './features.js';
import type { Spread } from './rounds.js';

/** What one coder made of all photographs at one cut. */
interface CoderResult {
  coder: string;
  numBytes: number;
  bitsPerSymbol: number;
  encode: Spread;
  decode: Spread;
}

interface CutResult {
  cut: number;
  bits: number;
  symbols: number;
  /** Bits per symbol of one distribution for each photograph, and of one for each channel of each. */
  entropy: { tensor: number; channel: number };
  coders: CoderResult[];
}

const { values } = parseArgs({
  options: {
    json: { type: 'string' },
    model: { type: 'string', default: 'mobilenet-v1' },
    bits: { type: 'string', multiple: true, default: ['8', '4', '2'] },
    rounds: { type: 'string', default: '11' },
  },
  allowPositionals: true,
});
const warmupRounds = 3;
const loadBefore = loadavg()[0]!;
const features = await computeFeatures(values.model);
const results: CutResult[] = [];
for (const bits of values.bits.map(Number)) {
  for (const feature of features) {
    const { cut, channels, perChannel, width } = feature;
    const photos = feature.frames.map((frame) => quantizeChannels(feature, bits, frame));
    const coded: CodedCut = { channels, perChannel, width, top: 2 ** bits - 1, photos };
    const result = measureCut(coded, Number(values.rounds));
    results.push({ cut, bits, ...result });
    console.log(
      `\n${values.model}, cut ${cut} (${channels}×${perChannel}), ${bits} bits\n\n${formatCut(results.at(-1)!)}`,
    );
  }
}
for (const [coder, reason] of Object.entries(missingCoders())) console.log(`\nwithout ${coder}: ${reason}`);
if (values.json !== undefined) {
  const record = {
    benchmark: 'codec',
    date: new Date().toISOString().slice(0, 10),
    command: `npm run bench -- ${process.argv.slice(2).join(' ')}`,
    machine: `${cpus()[0]?.model.trim() ?? 'unknown processor'}, ${cpus().length} cores`,
    software: `Node ${process.version}, ${process.platform} ${process.arch}`,
    load: { before: loadBefore, after: loadavg()[0] },
    model: values.model,
    unit: 'of all eight photographs; encode and decode in millions of symbols per second of processor time: median and quartiles',
    missing: missingCoders(),
    results,
  };
  await writeFile(values.json, `${JSON.stringify(record, null, 1)}\n`);
}

function measureCut(cut: CodedCut, rounds: number): Omit<CutResult, 'cut' | 'bits'> {
  const symbols = cut.photos.length * cut.channels * cut.perChannel;
  const coders = makeCoders(cut);
  const sizes = new Map<string, number>();
  const samples = new Map(coders.map(({ name }) => [name, [] as { encode: number; decode: number }[]]));
  for (let round = 0; round < warmupRounds + rounds; round++) {
    // Each round starts with another coder, so that what else happens on the machine hits all alike.
    for (let turn = 0; turn < coders.length; turn++) {
      const coder = coders[(round + turn) % coders.length]!;
      const times = runCoder(coder, cut, sizes);
      if (round >= warmupRounds) samples.get(coder.name)!.push(times);
    }
  }
  return {
    symbols,
    entropy: {
      tensor: cut.photos.reduce((bits, photo) => bits + entropyBits(photo), 0) / symbols,
      channel:
        cut.photos.reduce((bits, photo) => {
          let sum = 0;
          for (let start = 0; start < photo.length; start += cut.perChannel) {
            sum += entropyBits(photo.subarray(start, start + cut.perChannel));
          }
          return bits + sum;
        }, 0) / symbols,
    },
    coders: coders.map(({ name }) => ({
      coder: name,
      numBytes: sizes.get(name)!,
      bitsPerSymbol: Number(((8 * sizes.get(name)!) / symbols).toFixed(4)),
      encode: spreadOfRates(samples.get(name)!.map(({ encode }) => symbols / encode / 1000)),
      decode: spreadOfRates(samples.get(name)!.map(({ decode }) => symbols / decode / 1000)),
    })),
  };
}

function runCoder(
  coder: Coder,
  { photos }: CodedCut,
  sizes: Map<string, number>,
): { encode: number; decode: number } {
  const startMs = cpuMs();
  const streams = photos.map((codes, photo) => coder.encode(codes, photo));
  const encodedMs = cpuMs();
  const decoded = streams.map((stream, photo) => coder.decode(stream, photo));
  const endMs = cpuMs();
  decoded.forEach((codes, photo) => {
    if (!codes.every((code, i) => code === photos[photo]![i]))
      throw new Error(`${coder.name} lost something.`);
  });
  sizes.set(
    coder.name,
    streams.reduce((sum, stream) => sum + stream.byteLength, 0),
  );
  return { encode: encodedMs - startMs, decode: endMs - encodedMs };
}

/** The processor's time rather than the clock's: no coder waits, and other programs then matter less. */
function cpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

function spreadOfRates(rates: readonly number[]): Spread {
  const sorted = [...rates].sort((a, b) => a - b);
  const at = (share: number) => Number(sorted[Math.round(share * (sorted.length - 1))]!.toPrecision(4));
  return { median: at(0.5), low: at(0.25), high: at(0.75) };
}

function entropyBits(codes: Int32Array): number {
  const counts = new Map<number, number>();
  for (const code of codes) counts.set(code, (counts.get(code) ?? 0) + 1);
  return [...counts.values()].reduce((bits, count) => bits - count * Math.log2(count / codes.length), 0);
}

function formatCut({ entropy, coders, symbols }: CutResult): string {
  const percent = (ratio: number) => `${ratio >= 1 ? '+' : '−'}${Math.abs(100 * (ratio - 1)).toFixed(1)} %`;
  const rows = coders.map(({ coder, bitsPerSymbol, encode, decode }) => [
    coder,
    bitsPerSymbol.toFixed(3),
    percent(bitsPerSymbol / entropy.tensor),
    encode.median.toFixed(0),
    decode.median.toFixed(0),
  ]);
  const note = `${symbols} symbols; entropy ${entropy.tensor.toFixed(3)} bits each, ${entropy.channel.toFixed(3)} within channels`;
  return [
    ['', 'bits', 'over entropy', 'encode Msym/s', 'decode Msym/s'],
    ['---', '---:', '---:', '---:', '---:'],
    ...rows,
  ]
    .map((cells) => `| ${cells.join(' | ')} |`)
    .concat(['', note])
    .join('\n');
}
