// A folder of pictures as if it were a camera: one frame after the other, round and round, until Ctrl-C.
import { readdir, readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { connect, isIsthmusError } from '@isthmus/device';

const [url, model, folder, frames = 'Infinity'] = process.argv.slice(2);
if (url === undefined || model === undefined || folder === undefined) {
  console.error('usage: npm start -w @isthmus/example-node-camera -- URL MODEL FOLDER [FRAMES]');
  process.exit(2);
}
// npm starts us in our own folder; what the user means is relative to theirs.
const photos = resolve(process.env.INIT_CWD ?? '.', folder);
const names = (await readdir(photos)).filter((name) => /\.(jpe?g|png|webp)$/i.test(name)).sort();
if (names.length === 0) throw new Error(`There is no picture in ${photos}.`);

// The best answers within a second; a frame for which there is no such plan is skipped.
const session = await connect(url, { model, target: { deadlineMs: 1000 } });
session.on('link', ({ state }) => console.log(`link ${state}`));

let stopped = false;
process.once('SIGINT', () => {
  stopped = true;
});
for (let frame = 0; frame < Number(frames) && !stopped; frame++) {
  const name = names[frame % names.length] ?? '';
  try {
    const { output, plan, bytes, timing } = await session.run(await readFile(join(photos, name)));
    const answer = output.kind === 'classification' ? output.classes[0]?.label : output.kind;
    const where = plan.kind === 'local' ? 'local' : `cut ${plan.from} ${plan.codec} level ${plan.level}`;
    console.log(`${name}: ${answer} | ${where} | ${bytes.up} bytes | ${timing.totalMs.toFixed(1)} ms`);
  } catch (error) {
    // A frame that fails is lost; a camera goes on with the next.
    if (!isIsthmusError(error)) throw error;
    console.error(`${name}: ${error.message} [${error.code}]`);
    if (error.code === 'link/closed') break;
  }
}
await session.close();
