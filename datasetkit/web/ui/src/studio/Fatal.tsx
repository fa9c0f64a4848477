/** What the page shows when the server gives it nothing. */

import { ApiError } from "../http";

export function Fatal({ error, retry }: { readonly error: unknown; readonly retry: () => void }) {
  const replaced = error instanceof ApiError && error.status === 401;
  return (
    <main className="fatal">
      <h1>
        {replaced
          ? "This page belongs to an earlier dsk review."
          : error instanceof Error
            ? error.message
            : String(error)}
      </h1>
      <p>
        {replaced
          ? "Press Enter in the terminal in which dsk review runs: it prints a new link."
          : error instanceof ApiError
            ? error.hint
            : ""}
      </p>
      <button type="button" onClick={retry}>
        Try again
      </button>
    </main>
  );
}
