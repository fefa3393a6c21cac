import { IsthmusError, type PictureEncoder } from '@isthmus/core';

/**
 * Encodes pictures as the browser does: JPEG everywhere, WebP and AVIF where `convertToBlob` has them. Each coder
 * keeps one canvas, so that a video's frames need not make one each.
 */
export function createBrowserCoder(): PictureEncoder {
  let canvas: OffscreenCanvas | undefined;

  // Draws and encodes without a pause between, so that encodings at the same time do not mix: what is encoded is
  // the canvas as it is when convertToBlob is called.
  const encode: PictureEncoder['encode'] = async (rgb, width, height, format, quality) => {
    const type = `image/${format}`;
    canvas ??= new OffscreenCanvas(width, height);
    canvas.width = width;
    canvas.height = height;
    // Without alpha, encoders write three channels.
    const context = canvas.getContext('2d', { alpha: false });
    if (context === null) throw new IsthmusError('runtime/unavailable', 'This page cannot have a 2d canvas.');
    context.putImageData(new ImageData(withAlpha(rgb), width, height), 0, 0);
    const blob = await canvas.convertToBlob({ type, quality: quality / 100 });
    // Where a browser lacks a format it writes PNG.
    if (blob.type !== type) {
      throw new IsthmusError('codec/unknown', `This browser cannot encode ${format}. Choose another codec.`);
    }
    return new Uint8Array(await blob.arrayBuffer());
  };

  return {
    async prepare(format) {
      await encode(new Uint8Array(3 * 16 * 16), 16, 16, format, 50);
    },
    encode,
  };
}

function withAlpha(rgb: Uint8Array): Uint8ClampedArray<ArrayBuffer> {
  const rgba = new Uint8ClampedArray((rgb.length / 3) * 4).fill(255);
  for (let from = 0, to = 0; from < rgb.length; from += 3, to += 4) {
    rgba[to] = rgb[from]!;
    rgba[to + 1] = rgb[from + 1]!;
    rgba[to + 2] = rgb[from + 2]!;
  }
  return rgba;
}
