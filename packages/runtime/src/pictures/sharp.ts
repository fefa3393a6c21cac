import { type ErrorCode, IsthmusError } from '@isthmus/core';

/** The package sharp, which not every program needs. */
export async function importSharp(code: ErrorCode, message: string): Promise<typeof import('sharp').default> {
  try {
    return (await import('sharp')).default;
  } catch (cause) {
    throw new IsthmusError(code, message, { cause });
  }
}
