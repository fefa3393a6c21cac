import { connect, isIsthmusError, type Plan } from '@isthmus/device';

// Where the receiver is and what it serves: ?receiver=ws://localhost:8787&model=mobilenet-v1
const query = new URLSearchParams(location.search);
const receiver = query.get('receiver') ?? 'ws://localhost:8787';
const model = query.get('model') ?? 'mobilenet-v1';

const picture = document.querySelector<HTMLInputElement>('#picture')!;
const choice = document.querySelector<HTMLSelectElement>('#plan')!;
const output = document.querySelector<HTMLOutputElement>('#output')!;
const progress = document.querySelector('#progress')!;
const plans = new Map<string, Plan | 'auto'>([['auto', 'auto']]);

try {
  const session = await connect(receiver, { model });
  // The plan is usually best left to 'auto'; here every one the bundle has can be tried.
  for (const { id, paths, levels } of session.manifest.codecs) {
    for (const { from, to } of paths) {
      levels.forEach((level, index) => {
        const name = `cut ${from} · ${id} ${level.name}`;
        plans.set(name, { kind: 'split', from, codec: id, level: index, to });
        choice.add(new Option(name));
      });
    }
  }
  session.on('segment', ({ path, receivedBytes, numBytes, source }) => {
    progress.textContent = `${path}: ${receivedBytes} of ${numBytes} bytes from the ${source}`;
  });

  const classify = async (): Promise<void> => {
    output.value = '';
    const file = picture.files?.[0];
    if (file === undefined) return;
    const asked = choice.value;
    try {
      const { output: answer, bytes, timing } = await session.run(file, { plan: plans.get(asked) ?? 'auto' });
      const best = answer.kind === 'classification' ? answer.classes[0] : undefined;
      const what = best === undefined ? answer.kind : `${best.label} (${best.score.toFixed(3)})`;
      output.value = `${file.name}, ${asked}: ${what}, ${bytes.up} bytes, ${timing.totalMs.toFixed(0)} ms`;
    } catch (error) {
      output.value = `${file.name}, ${asked}: ${describe(error)}`;
    }
  };
  picture.addEventListener('change', classify);
  choice.addEventListener('change', classify);
  picture.disabled = false;
  output.value = 'Connected. Choose a picture.';
} catch (error) {
  output.value = describe(error);
}

function describe(error: unknown): string {
  return isIsthmusError(error) ? `${error.message} [${error.code}]` : String(error);
}
