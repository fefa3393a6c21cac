// A receiver below /isthmus of a server that has routes of its own.
import { once } from 'node:events';
import { createServer } from 'node:http';
import { resolve } from 'node:path';
import { createReceiver } from '@isthmus/cloud';

const bundles = process.argv.slice(2).map((folder) => resolve(process.env.INIT_CWD ?? '.', folder));
if (bundles.length === 0) {
  console.error('usage: npm start -w @isthmus/example-receiver-in-http-server -- BUNDLE…');
  process.exit(2);
}

const receiver = await createReceiver({ bundles });
const server = createServer((request, response) => {
  if (request.url === '/hello') response.end(`This server also serves ${receiver.models.join(', ')}.\n`);
  else response.writeHead(404).end();
});
receiver.attach(server, '/isthmus');

server.listen(Number(process.env.PORT ?? 8080), '127.0.0.1');
await once(server, 'listening');
const address = server.address();
const port = typeof address === 'object' ? address?.port : undefined;
console.log(`http://localhost:${port}/hello and ws://localhost:${port}/isthmus`);

for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, async () => {
    await receiver.drain();
    server.close();
    console.log('Drained.');
  });
}
