import { buildTrainingStep, createTrainer, createTrainingState, type Trainer } from '@isthmus/train';
import { type Contender, type Measured, type RoundsOptions, runRounds, timed } from './rounds.js';
import { startTorch, type TorchSteps } from './torch-steps.js';
import { codecNet, feedsFor, resNet20, type TrainedNet } from './train-nets.js';

const nets: Readonly<Record<string, () => TrainedNet>> = { codec: codecNet, 'resnet-20': resNet20 };

/** The nets that can be measured. */
export const trainedNets: readonly string[] = Object.keys(nets);

export interface TrainOptions extends RoundsOptions {
  /** A Python with PyTorch, to compare with. */
  python: string | undefined;
}

/**
 * A training step of forward, backward and AdamW, with one thread and with two, or as many as asked for; and the same step in
 * PyTorch, with as many.
 */
export async function measureTrain(name: string, options: TrainOptions): Promise<Measured[]> {
  const build = nets[name];
  if (build === undefined) throw new Error(`There is no net ${name}; there are ${trainedNets.join(', ')}.`);
  const net = build();
  const plan = buildTrainingStep(net.draft, { loss: net.loss, optimizer: { clipNorm: 10 } });
  const feeds = feedsFor(net);
  const trainers: Trainer[] = [];
  const torches: TorchSteps[] = [];
  const contenders: Contender[] = [];
  const add = (what: string, threads: number, step: () => Promise<{ total: number; cpu: number }>): void => {
    const run = async (): Promise<Record<string, number>> => {
      const { total, cpu } = await step();
      return { total, cpu, 'images/s': (1000 * net.batch) / total };
    };
    contenders.push({
      name: `${what}, ${threads} thread${threads === 1 ? '' : 's'}, batch ${net.batch}`,
      run,
    });
  };
  try {
    for (const threads of options.threads === undefined ? [1, 2] : [options.threads]) {
      const trainer = await createTrainer(plan, { state: createTrainingState(plan, net.draft), threads });
      trainers.push(trainer);
      add('here', threads, () => timed(() => trainer.step(feeds, { learningRate: 1e-4 })));
      if (options.python === undefined) continue;
      const torch = await startTorch(options.python, name, threads);
      torches.push(torch);
      add(`PyTorch ${torch.version}`, threads, torch.step);
    }
    // A step takes ten times as long as what warms up for a frame.
    return await runRounds(contenders, { ...options, warmup: Math.min(options.warmup, 4) });
  } finally {
    await Promise.all(trainers.map((trainer) => trainer.release()));
    for (const torch of torches) torch.stop();
  }
}
