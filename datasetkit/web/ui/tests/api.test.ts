import { expect, test } from "vitest";
import { connect, ApiError } from "../src/api";
import { Http } from "../src/http";

type Call = { readonly url: string; readonly init: RequestInit };

function server(responses: Record<string, { readonly status?: number; readonly body: unknown }>) {
  const calls: Call[] = [];
  const fetcher = (url: string | URL | Request, init: RequestInit = {}) => {
    calls.push({ url: String(url), init });
    const response = responses[String(url).split("?")[0] ?? ""] ?? {
      status: 500,
      body: "not JSON",
    };
    return Promise.resolve(
      new Response(
        typeof response.body === "string" ? response.body : JSON.stringify(response.body),
        {
          status: response.status ?? 200,
        },
      ),
    );
  };
  return { calls, api: connect(new Http(fetcher)) };
}

test("URLs are relative, and POST requests carry the token", async () => {
  const { calls, api } = server({
    "api/session": { body: { token: "secret" } },
    "api/apply": { body: {} },
    "api/images": { body: {} },
  });
  await api.session();
  await api.images('tag:"a b" AND x&y', 500, 500);
  await api.apply(4, { in: "all" }, { remove: ["lips"] });
  expect(calls.every((call) => /^[a-z]/.test(call.url) && !call.url.includes(":"))).toBe(true);
  expect(calls[1]?.url).toContain("where=tag%3A%22a+b%22+AND+x%26y");
  expect(calls[1]?.url).not.toContain("secret");
  expect((calls[2]?.init.headers as Record<string, string>)["X-Dsk-Token"]).toBe("secret");
  expect(JSON.parse(String(calls[2]?.init.body))).toEqual({
    version: 4,
    scope: { in: "all" },
    dry_run: false,
    do: { remove: ["lips"] },
  });
});

test("an error carries the reason, the position and the conflicts", async () => {
  const conflicts = [
    { id: 7, name: "a.jpg", expected: "a", current: "b", added: ["b"], removed: ["a"] },
  ];
  const { api } = server({
    "api/undo": {
      status: 409,
      body: { error: "changed", hint: "look", version: 9, conflicts, count: 1 },
    },
  });
  const error = await api.undo(8).catch((error: unknown) => error);
  expect(error).toBeInstanceOf(ApiError);
  expect(error).toMatchObject({
    status: 409,
    message: "changed",
    hint: "look",
    version: 9,
    conflicts,
    count: 1,
  });
});

test("a response that is not JSON is still an error with a status", async () => {
  const { api } = server({});
  await expect(api.nearDuplicates()).rejects.toMatchObject({ status: 500 });
});

test("without a response the error says what to do", async () => {
  const api = connect(new Http(() => Promise.reject(new TypeError("fetch failed"))));
  await expect(api.session()).rejects.toMatchObject({
    status: 0,
    hint: expect.stringContaining("start it again"),
  });
});
