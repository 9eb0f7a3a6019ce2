// The official openai SDK: what it finds at each of the models named, as one JSON object on the standard output.
import OpenAI from "openai";

const [baseURL, apiKey, ...models] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const messages = [{ role: "user", content: "hi" }];
const tools = [{ type: "function", function: { name: "f", parameters: { type: "object" } } }];
const called = (calls) => calls?.map((one) => [one.id, one.function.name, JSON.parse(one.function.arguments)]);

async function refusal(call) {
  try {
    await call();
  } catch (error) {
    return [error.constructor.name, error.status, error.code ?? error.error?.code, error.requestID !== undefined];
  }
}

const found = {};
for (const model of models) {
  const whole = await client.chat.completions.create({ model, messages });
  let text = "";
  let usage;
  const options = { include_usage: true };
  for await (const chunk of await client.chat.completions.create({ model, messages, stream: true, stream_options: options })) {
    text += chunk.choices[0]?.delta.content ?? "";
    usage = chunk.usage ?? usage;
  }
  const offered = await client.chat.completions.create({ model, messages, tools });
  const helped = client.chat.completions.stream({ model, messages, tools });
  const gathered = await helped.finalChatCompletion();
  const response = await client.responses.create({ model, input: "hi", store: false });
  const types = [];
  for await (const event of await client.responses.create({ model, input: "hi", store: false, stream: true })) {
    types.push(event.type);
  }
  found[model] = {
    whole: [whole.choices[0].message.content, whole.usage.total_tokens],
    stream: [text, usage.total_tokens],
    tools: [called(offered.choices[0].message.tool_calls), offered.choices[0].finish_reason],
    gathered: called(gathered.choices[0].message.tool_calls),
    response: [response.output_text, response.usage.output_tokens],
    events: [types[0], types.at(-1)],
    slow: await refusal(() => client.chat.completions.create({ model, messages })),
    broken: await refusal(async () => {
      for await (const _ of await client.chat.completions.create({ model, messages, stream: true }));
    }),
  };
}
found.unknown = await refusal(() => client.chat.completions.create({ model: "nobody", messages }));
found.stranger = await refusal(() =>
  new OpenAI({ baseURL, apiKey: "sk-wrong", maxRetries: 0 }).chat.completions.create({ model: models[0], messages }),
);
found.models = (await client.models.list()).data.map((one) => one.id).sort();
console.log(JSON.stringify(found));
