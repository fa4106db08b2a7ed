// Submits images and prints their verdicts: node api_client.mjs s3://bucket/key…
// FAKESWEEP_API is the server's address, such as https://desk.example/v1, FAKESWEEP_TOKEN a token with submit and read.
import { randomUUID } from "node:crypto";

const { FAKESWEEP_API: given, FAKESWEEP_TOKEN: token } = process.env;
const uris = process.argv.slice(2);
if (!given || !token || uris.length === 0) {
  console.error("usage: FAKESWEEP_API=https://desk.example/v1 FAKESWEEP_TOKEN=… node api_client.mjs s3://bucket/key…");
  process.exit(2);
}
const api = given.replace(/\/+$/, "");

async function ask(path, options = {}) {
  const headers = { Authorization: `Bearer ${token}`, ...options.headers };
  const answer = await fetch(new URL(path, api), { ...options, headers });
  const body = await answer.json();
  if (!answer.ok) throw new Error(`${answer.status}: ${body.detail} ${JSON.stringify(body.errors ?? "")}`);
  return { answer, body };
}

async function submit() {
  const request = {
    method: "POST",
    headers: {
      "Content-Type": "application/json",
      "Idempotency-Key": randomUUID(),
      Prefer: "wait=30",
    },
    body: JSON.stringify({ images: uris.map((uri) => ({ uri })) }),
  };
  for (let tries = 1; ; tries += 1) {
    try {
      return await ask(`${new URL(api).pathname}/submissions`, request);
    } catch (error) {
      // The key makes it safe to send the same again, also when nobody knows whether it arrived.
      if (tries === 5 || !/^(409|429|503)|fetch failed/.test(error.message)) throw error;
      await new Promise((resolve) => setTimeout(resolve, 1000 * 2 ** tries));
    }
  }
}

const { answer, body: submission } = await submit();
let found = submission;
while (found.findings === null && !["paused", "cancelled"].includes(found.status)) {
  found = (await ask(answer.headers.get("location"), { headers: { Prefer: "wait=30" } })).body;
}
for (const { uri, verdict, score, reason } of found.findings ?? []) {
  console.log(JSON.stringify({ uri, verdict, score, reason }));
}
