/**
 * What Isthmus uses of a WebSocket: the standard one, or that of the `ws` package. Not yet open; it must not
 * negotiate permessage-deflate.
 */
export interface WebSocketLike {
  binaryType: string;
  readonly bufferedAmount: number;
  addEventListener(type: 'open' | 'error', listener: (event: object) => void): void;
  addEventListener(type: 'message', listener: (event: { data: unknown }) => void): void;
  addEventListener(type: 'close', listener: (event: { code: number; reason: string }) => void): void;
  send(message: Uint8Array<ArrayBuffer>): void;
  close(code?: number, reason?: string): void;
}

/** Opens a WebSocket to that address. */
export type OpenWebSocket = (url: string) => WebSocketLike | Promise<WebSocketLike>;
