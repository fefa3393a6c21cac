import { once } from 'node:events';
import { createServer, request } from 'node:http';
import { type AddressInfo, connect } from 'node:net';

/** Stands between a page and a receiver: sees what is asked for, and can damage it. */
export interface HttpProxy {
  port: number;
  /** Paths asked for so far, in order. */
  paths: string[];
  /** Flips a bit in every answer to a path that fits. */
  damage: RegExp | undefined;
  close(): Promise<void>;
}

export async function startHttpProxy(targetPort: number): Promise<HttpProxy> {
  const target = { host: '127.0.0.1', port: targetPort };
  const paths: string[] = [];
  const server = createServer((incoming, outgoing) => {
    const { method, url: path = '/', headers } = incoming;
    paths.push(path);
    const onward = request({ ...target, method, path, headers }, async (answer) => {
      outgoing.writeHead(answer.statusCode!, answer.headers);
      const body = Buffer.concat(await answer.toArray());
      if (proxy.damage?.test(path)) body[body.length >> 1]! ^= 1;
      outgoing.end(body);
    });
    onward.on('error', () => outgoing.destroy());
    incoming.pipe(onward);
  });
  // WebSockets pass as they are.
  server.on('upgrade', (incoming, socket) => {
    const onward = connect(target, () => {
      const { rawHeaders } = incoming;
      const lines = rawHeaders.flatMap((name, i) => (i % 2 === 0 ? [`${name}: ${rawHeaders[i + 1]}`] : []));
      onward.write(`GET ${incoming.url} HTTP/1.1\r\n${lines.join('\r\n')}\r\n\r\n`);
      onward.pipe(socket).pipe(onward);
    });
    onward.on('error', () => socket.destroy());
    socket.on('error', () => onward.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const proxy: HttpProxy = {
    port: (server.address() as AddressInfo).port,
    paths,
    damage: undefined,
    async close() {
      server.close();
      server.closeAllConnections();
    },
  };
  return proxy;
}
