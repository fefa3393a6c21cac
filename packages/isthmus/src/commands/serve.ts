import { once } from 'node:events';
import { createReceiver } from '@isthmus/cloud';
import { createNodeRuntime } from '@isthmus/runtime/node';
import type { CAC } from 'cac';
import { pino } from 'pino';
import { z } from 'zod';
import type { CliContext } from '../cli.js';

const optionsSchema = z.object({
  port: z.coerce.number().int().min(0).max(65535).default(8787),
  host: z.coerce.string().default('127.0.0.1'),
  token: z
    .union([z.string(), z.number(), z.array(z.union([z.string(), z.number()]))])
    .transform((value) => [value].flat().map(String))
    .optional(),
  origin: z
    .union([z.string(), z.array(z.string())])
    .transform((value) => [value].flat())
    .optional(),
  threads: z.coerce.number().int().min(1).max(256).optional(),
  log: z.enum(['debug', 'info', 'warn', 'error', 'silent']).default('info'),
  json: z.boolean().default(false),
});

/** `isthmus serve`: a receiver for one or more bundles, until told to stop. */
export function addServeCommand(cli: CAC, context: CliContext): void {
  cli
    .command('serve <...bundles>', 'Serve bundles: take features over WebSocket, finish the inference')
    .option('--port <port>', 'Port to listen on; 0 takes a free one', { default: 8787 })
    .option('--host <address>', 'Address to listen on; 0.0.0.0 for every network', { default: '127.0.0.1' })
    .option('--token <token>', 'Ask clients for this token (repeatable); also read from ISTHMUS_TOKEN')
    .option('--origin <origin>', 'Let pages of this origin connect (repeatable); * for all')
    .option('--threads <n>', 'Threads of ONNX Runtime [default: its own choice]')
    .option('--log <level>', 'debug, info, warn, error or silent', { default: 'info' })
    .option('--json', 'Print one line of JSON when ready: {"url","port","models"}')
    .example('isthmus serve bundles/mobilenet-v1 --port 8787')
    .action(async (bundles: string[], raw: unknown) => {
      const options = optionsSchema.parse(raw);
      const tokens = options.token ?? (context.env.ISTHMUS_TOKEN ? [context.env.ISTHMUS_TOKEN] : undefined);
      const logger = pino({ name: 'isthmus', level: options.log }, pino.destination(2));
      const runtime = createNodeRuntime(options.threads === undefined ? {} : { threads: options.threads });
      const receiver = await createReceiver({
        bundles,
        runtime,
        logger,
        ...(tokens && { auth: tokens }),
        ...(options.origin && { allowedOrigins: options.origin.includes('*') ? '*' : options.origin }),
      });
      try {
        const { port, url } = await receiver.listen(options.port, options.host);
        const models = receiver.models;
        if (options.json) context.out(JSON.stringify({ url, port, models }));
        else context.out(`Serving ${models.join(', ')} on ${url} (Ctrl-C stops)`);
        if (!context.signal.aborted) await once(context.signal, 'abort');
        context.note('Finishing what is under way …');
        await receiver.drain();
      } finally {
        await receiver.close();
        await runtime.close();
      }
    });
}
