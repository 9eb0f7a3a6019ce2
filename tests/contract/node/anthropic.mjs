// The official Anthropic SDK: what it finds at each of the models named, as one JSON object on the standard output.
import Anthropic from "@anthropic-ai/sdk";

const [baseURL, apiKey, ...models] = process.argv.slice(2);
const client = new Anthropic({ baseURL, apiKey, maxRetries: 0 });
const messages = [{ role: "user", content: "hi" }];
const tools = [{ name: "f", input_schema: { type: "object" } }];
const said = (message) => message.content.filter((one) => one.type === "text").map((one) => one.text).join("");
const called = (message) =>
  message.content.filter((one) => one.type === "tool_use").map((one) => [one.id, one.name, one.input]);

async function refusal(call) {
  try {
    await call();
  } catch (error) {
    return [error.constructor.name, error.status ?? null, error.error?.error?.type ?? null];
  }
}

const found = {};
for (const model of models) {
  const asked = { model, max_tokens: 50, messages };
  const whole = await client.messages.create(asked);
  const streamed = await client.messages.stream(asked).finalMessage();
  const offered = await client.messages.create({ ...asked, tools });
  const gathered = await client.messages.stream({ ...asked, tools }).finalMessage();
  found[model] = {
    whole: [said(whole), whole.stop_reason, whole.usage.output_tokens],
    stream: [said(streamed), streamed.stop_reason, streamed.usage.output_tokens],
    tools: [called(offered), offered.stop_reason],
    gathered: called(gathered),
    slow: await refusal(() => client.messages.create(asked)),
    broken: await refusal(() => client.messages.stream(asked).finalMessage()),
  };
}
found.unknown = await refusal(() => client.messages.create({ model: "nobody", max_tokens: 50, messages }));
found.stranger = await refusal(() =>
  new Anthropic({ baseURL, apiKey: "sk-wrong", maxRetries: 0 }).messages.create({ model: models[0], max_tokens: 50, messages }),
);
console.log(JSON.stringify(found));
