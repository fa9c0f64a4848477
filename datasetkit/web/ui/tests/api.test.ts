import { expect, test } from "vitest";
import { connect, Refused } from "../src/api";

type Call = { readonly address: string; readonly init: RequestInit };

function server(answers: Record<string, { readonly status?: number; readonly body: unknown }>) {
  const calls: Call[] = [];
  const fetcher = (address: string | URL | Request, init: RequestInit = {}) => {
    calls.push({ address: String(address), init });
    const answer = answers[String(address).split("?")[0] ?? ""] ?? {
      status: 500,
      body: "not JSON",
    };
    return Promise.resolve(
      new Response(typeof answer.body === "string" ? answer.body : JSON.stringify(answer.body), {
        status: answer.status ?? 200,
      }),
    );
  };
  return { calls, api: connect(fetcher) };
}

test("all addresses are relative, and the token goes with what changes", async () => {
  const { calls, api } = server({
    "api/session": { body: { token: "secret" } },
    "api/apply": { body: {} },
    "api/images": { body: {} },
  });
  await api.session();
  await api.images('tag:"a b" AND x&y', 500, 500);
  await api.apply(4, { in: "all" }, { remove: ["lips"] });
  expect(calls.every((call) => /^[a-z]/.test(call.address) && !call.address.includes(":"))).toBe(
    true,
  );
  expect(calls[1]?.address).toContain("where=tag%3A%22a+b%22+AND+x%26y");
  expect(calls[1]?.address).not.toContain("secret");
  expect((calls[2]?.init.headers as Record<string, string>)["X-Dsk-Token"]).toBe("secret");
  expect(JSON.parse(String(calls[2]?.init.body))).toEqual({
    version: 4,
    scope: { in: "all" },
    dry_run: false,
    do: { remove: ["lips"] },
  });
});

test("a refusal carries the reason, the place and what changed", async () => {
  const changed = [{ id: 7, name: "a.jpg", known: "a", now: "b", added: ["b"], removed: ["a"] }];
  const { api } = server({
    "api/undo": {
      status: 409,
      body: { error: "changed", hint: "look", version: 9, changed, count: 1 },
    },
  });
  const refused = await api.undo(8).catch((error: unknown) => error);
  expect(refused).toBeInstanceOf(Refused);
  expect(refused).toMatchObject({
    status: 409,
    message: "changed",
    hint: "look",
    version: 9,
    changed,
    count: 1,
  });
});

test("an answer that is no JSON is still an answer", async () => {
  const { api } = server({});
  await expect(api.duplicates()).rejects.toMatchObject({ status: 500 });
});

test("no answer at all says how to go on", async () => {
  const api = connect(() => Promise.reject(new TypeError("fetch failed")));
  await expect(api.session()).rejects.toMatchObject({
    status: 0,
    hint: expect.stringContaining("start it again"),
  });
});
