import { buildTrainingStep, createTrainer, createTrainingState, type Trainer } from '@isthmus/train';
import { type Contender, type Measured, type RoundsOptions, runRounds, timed } from './rounds.js';
import { codecNet, feedsFor, resNet20, type TrainedNet } from './train-nets.js';

const nets: Readonly<Record<string, () => TrainedNet>> = { codec: codecNet, 'resnet-20': resNet20 };

/** The nets that can be measured. */
export const trainedNets: readonly string[] = Object.keys(nets);

/** A training step of forward, backward and AdamW, with one thread and with two. */
export async function measureTrain(name: string, options: RoundsOptions): Promise<Measured[]> {
  const build = nets[name];
  if (build === undefined) throw new Error(`There is no net ${name}; there are ${trainedNets.join(', ')}.`);
  const net = build();
  const plan = buildTrainingStep(net.draft, { loss: net.loss, optimizer: { clipNorm: 10 } });
  const feeds = feedsFor(net);
  const trainers: Trainer[] = [];
  const contenders: Contender[] = [];
  for (const threads of [1, 2]) {
    const trainer = await createTrainer(plan, { state: createTrainingState(plan, net.draft), threads });
    trainers.push(trainer);
    const run = async (): Promise<Record<string, number>> => {
      const { total, cpu } = await timed(() => trainer.step(feeds, { learningRate: 1e-4 }));
      return { total, cpu, 'images/s': (1000 * net.batch) / total };
    };
    contenders.push({ name: `${threads} thread${threads === 1 ? '' : 's'}, batch ${net.batch}`, run });
  }
  try {
    // A step takes ten times as long as what warms up for a frame.
    return await runRounds(contenders, { ...options, warmup: Math.min(options.warmup, 2) });
  } finally {
    await Promise.all(trainers.map((trainer) => trainer.release()));
  }
}
