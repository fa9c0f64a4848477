/** Requests to the server: JSON in both directions, and the token that everything but a read needs. */

/** A caption that is not what the page expected. */
export interface CaptionConflict {
  readonly id: number;
  readonly name: string;
  readonly expected: string | null;
  readonly current: string | null;
  readonly added: readonly string[];
  readonly removed: readonly string[];
}

/** An HTTP status other than 2xx, or no response at all (status 0). */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly hint = "",
    /** Of the error in a filter, from 0. */
    readonly position: number | null = null,
    readonly version: number | null = null,
    readonly conflicts: readonly CaptionConflict[] = [],
    readonly count = 0,
    /** The whole response, for what only one route adds. */
    readonly body: Readonly<Record<string, unknown>> = {},
  ) {
    super(message);
  }
}

/** Whether the server has no such thing. */
export function isMissing(error: unknown): boolean {
  return error instanceof ApiError && error.status === 404;
}

export type Fetcher = (input: string, init?: RequestInit) => Promise<Response>;

export class Http {
  /** From `api/session`; it stays in memory. */
  token = "";
  /** The command that serves the page, for messages. */
  program = "dsk review";

  constructor(private readonly fetcher: Fetcher = (input, init) => fetch(input, init)) {}

  get<T>(url: string, signal?: AbortSignal): Promise<T> {
    return this.call<T>(url, signal ? { signal } : {});
  }

  post<T>(url: string, body: object, signal?: AbortSignal): Promise<T> {
    return this.send<T>("POST", url, body, signal);
  }

  put<T>(url: string, body: object): Promise<T> {
    return this.send<T>("PUT", url, body);
  }

  delete<T>(url: string, body: object = {}): Promise<T> {
    return this.send<T>("DELETE", url, body);
  }

  /** Send the bytes of a file. */
  upload<T>(url: string, file: Blob, signal?: AbortSignal): Promise<T> {
    return this.call<T>(url, {
      method: "PUT",
      headers: { "Content-Type": "application/octet-stream", "X-Dsk-Token": this.token },
      body: file,
      ...(signal ? { signal } : {}),
    });
  }

  private send<T>(method: string, url: string, body: object, signal?: AbortSignal): Promise<T> {
    return this.call<T>(url, {
      method,
      headers: { "Content-Type": "application/json", "X-Dsk-Token": this.token },
      body: JSON.stringify(body),
      ...(signal ? { signal } : {}),
    });
  }

  private async call<T>(url: string, init: RequestInit): Promise<T> {
    let response: Response;
    try {
      response = await this.fetcher(url, { credentials: "same-origin", ...init });
    } catch (error) {
      if (error instanceof DOMException && error.name === "AbortError") throw error;
      throw new ApiError(
        0,
        `${this.program} does not respond`,
        "start it again and open the link that it prints",
      );
    }
    if (response.ok) return (await response.json()) as T;
    throw await errorOf(response);
  }
}

export function query(values: Readonly<Record<string, string | number>>): string {
  return new URLSearchParams(
    Object.entries(values).map(([key, value]) => [key, String(value)]),
  ).toString();
}

async function errorOf(response: Response): Promise<ApiError> {
  try {
    const body = (await response.json()) as Partial<Record<string, unknown>>;
    return new ApiError(
      response.status,
      String(body["error"] ?? response.statusText),
      String(body["hint"] ?? ""),
      typeof body["position"] === "number" ? body["position"] : null,
      typeof body["version"] === "number" ? body["version"] : null,
      Array.isArray(body["conflicts"]) ? (body["conflicts"] as CaptionConflict[]) : [],
      typeof body["count"] === "number" ? body["count"] : 0,
      body,
    );
  } catch {
    return new ApiError(
      response.status,
      `the server responded with ${response.status} ${response.statusText}`.trim(),
    );
  }
}
