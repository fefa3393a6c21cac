import { IsthmusError, type RawImage } from '@isthmus/core';

/** What a browser can draw. */
export type BrowserPicture =
  | ImageData
  | ImageBitmap
  | VideoFrame
  | HTMLCanvasElement
  | OffscreenCanvas
  | HTMLVideoElement
  | HTMLImageElement
  | Blob;

type Drawable = Exclude<BrowserPicture, ImageData | Blob>;

/** Reads pictures of one page. Keeps a canvas, since a new one for each frame of a video costs more than drawing. */
export function createPictureReader(): (frame: unknown) => Promise<RawImage | undefined> {
  let canvas: OffscreenCanvas | undefined;

  const draw = (picture: Drawable, width: number, height: number): RawImage => {
    if (!(width > 0 && height > 0)) {
      throw new IsthmusError(
        'image/unsupported',
        'The picture has no size yet. Wait until it is loaded (`img.decode()`, or the video’s `loadeddata`).',
      );
    }
    try {
      canvas ??= new OffscreenCanvas(width, height);
      // Setting a size clears, so that nothing of an earlier picture shines through.
      canvas.width = width;
      canvas.height = height;
      const context = canvas.getContext('2d', { willReadFrequently: true });
      if (context === null) throw new Error('there is no 2d context');
      context.drawImage(picture, 0, 0, width, height);
      return { data: context.getImageData(0, 0, width, height).data, width, height, channels: 4 };
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new IsthmusError(
        'image/unsupported',
        `The picture cannot be read: ${reason}. If it comes from another site, that site must allow it (CORS).`,
        { cause },
      );
    }
  };

  return async (frame) => {
    if (isA(frame, 'ImageData')) {
      const { data, width, height } = frame as ImageData;
      // Copied, since the page may go on drawing while the frame waits for its turn.
      return { data: data.slice() as Uint8ClampedArray, width, height, channels: 4 };
    }
    if (isA(frame, 'Blob')) {
      const bitmap = await decode(frame as Blob);
      try {
        return draw(bitmap, bitmap.width, bitmap.height);
      } finally {
        bitmap.close();
      }
    }
    const size = sizeOf(frame);
    return size === undefined ? undefined : draw(frame as Drawable, ...size);
  };
}

async function decode(blob: Blob): Promise<ImageBitmap> {
  try {
    return await createImageBitmap(blob);
  } catch (cause) {
    throw new IsthmusError(
      'image/decode-failed',
      `The picture of ${blob.size} bytes does not decode. Is the file whole?`,
      { cause },
    );
  }
}

// Native sizes: what a page shows an element at says nothing about its pixels.
function sizeOf(frame: unknown): [width: number, height: number] | undefined {
  if (isA(frame, 'HTMLVideoElement')) {
    const { videoWidth, videoHeight } = frame as HTMLVideoElement;
    return [videoWidth, videoHeight];
  }
  if (isA(frame, 'HTMLImageElement')) {
    const { naturalWidth, naturalHeight } = frame as HTMLImageElement;
    return [naturalWidth, naturalHeight];
  }
  if (isA(frame, 'VideoFrame')) {
    const { displayWidth, displayHeight } = frame as VideoFrame;
    return [displayWidth, displayHeight];
  }
  if (isA(frame, 'ImageBitmap') || isA(frame, 'HTMLCanvasElement') || isA(frame, 'OffscreenCanvas')) {
    const { width, height } = frame as ImageBitmap;
    return [width, height];
  }
  return undefined;
}

// Not every browser, and no worker, has all of these.
function isA(value: unknown, name: string): boolean {
  const type = (globalThis as Record<string, unknown>)[name];
  return typeof type === 'function' && value instanceof type;
}
