/** Send files: a few at a time, each tried again, and only those that have not arrived. */

import { ApiError } from "../../http";
import type { Imported, LeftOut, Upload } from "./shapes";

export interface UploadServer {
  open(
    files: readonly { readonly path: string; readonly size: number; readonly modified: number }[],
  ): Promise<Upload>;
  send(id: string, n: number, file: Blob, signal: AbortSignal): Promise<unknown>;
  end(id: string): Promise<Imported>;
  cancel(id: string): Promise<unknown>;
}

export interface UploadSource {
  readonly path: string;
  readonly file: Blob & { readonly lastModified?: number };
}

export interface UploadProgress {
  readonly files: number;
  readonly of: number;
  readonly bytes: number;
  readonly ofBytes: number;
}

const AT_ONCE = 3;
const TRIES = 5;

/** A request that may succeed when it is sent again: no answer, or a server that is busy. */
export function isTemporary(error: unknown): boolean {
  return error instanceof ApiError && (error.status === 0 || error.status >= 500);
}

/** Send all files, then import them together. Throws what the server refuses. */
export async function upload(
  server: UploadServer,
  sources: readonly UploadSource[],
  progress: (now: UploadProgress) => void,
  signal: AbortSignal,
  wait: (seconds: number) => Promise<void> = sleep,
): Promise<Imported> {
  const opened = await server.open(
    sources.map(({ path, file }) => ({
      path,
      size: file.size,
      modified: file.lastModified ?? 0,
    })),
  );
  const refused: LeftOut[] = opened.files
    .filter((file) => file.state === "left-out")
    .map((file) => ({ name: sources[file.n]?.path ?? "", reason: file.reason ?? "" }));
  const taken = opened.files.filter((file) => file.state !== "left-out");
  const sizeOf = (n: number): number => sources[n]?.file.size ?? 0;
  const ofBytes = taken.reduce((sum, file) => sum + sizeOf(file.n), 0);
  const arrived = taken.filter((file) => file.state === "arrived");
  let [files, bytes] = [arrived.length, arrived.reduce((sum, file) => sum + sizeOf(file.n), 0)];
  const report = () => progress({ files, of: taken.length, bytes, ofBytes });
  report();

  const queue = taken.filter((file) => file.state === "wanted").map((file) => file.n);
  const sendOne = async (n: number): Promise<void> => {
    const source = sources[n];
    if (!source) return;
    for (let tried = 1; ; tried++) {
      signal.throwIfAborted();
      try {
        await server.send(opened.id, n, source.file, signal);
        break;
      } catch (error) {
        if (!isTemporary(error) || tried >= TRIES) throw error;
        await wait(2 ** (tried - 1));
      }
    }
    files += 1;
    bytes += source.file.size;
    report();
  };
  const worker = async (): Promise<void> => {
    for (let n = queue.shift(); n !== undefined; n = queue.shift()) await sendOne(n);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  const imported = await server.end(opened.id);
  return { ...imported, left_out: [...refused, ...imported.left_out] };
}

function sleep(seconds: number): Promise<void> {
  return new Promise((done) => setTimeout(done, seconds * 1000));
}
