/** The routes of `dsk studio`, as docs/studio-api.md has them, and the types of their JSON. */

import type { Session } from "../api";

/** `GET api/session`. Without images there is no dataset, and the captions have a problem. */
export interface StudioSession extends Partial<Session> {
  readonly token: string;
  readonly command: "studio" | "review";
  readonly name: string;
  readonly folder: string;
  readonly root: string;
  readonly read_only: boolean;
  readonly images: number;
  readonly captioned: number;
  readonly started: string;
  readonly dsk: string;
  readonly captions_problem: { readonly error: string; readonly hint: string } | null;
}
