// The AI SDK with its providers: @ai-sdk/openai on Responses and on chat, @ai-sdk/openai-compatible and
// @ai-sdk/anthropic. Arguments and what is printed are those of scenarios.py; with `stored` as a third argument, which
// says that the gateway stores responses, it is @ai-sdk/openai alone, as it is without any options: it then refers to
// items of earlier answers instead of sending them.

import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, isStepCount, Output, streamText, tool } from "ai";
import { readFileSync } from "node:fs";
import { z } from "zod";

globalThis.AI_SDK_LOG_WARNINGS = false;
const [gateway, picture, stored] = process.argv.slice(2);
const model = "coder";
const weatherOf = { Oslo: "7 degrees", Rome: "21 degrees" };
const weather = tool({
  description: "Give the weather of a city.",
  inputSchema: z.object({ city: z.string() }),
  execute: async ({ city }) => weatherOf[city],
});
const report = Output.object({ schema: z.object({ city: z.string(), degrees: z.number() }) });

const scenariosOf = (model, providerOptions = {}) => {
  const all = { model, providerOptions, maxRetries: 0 };
  const ask = (prompt, more = {}) =>
    generateText({ ...all, ...(Array.isArray(prompt) ? { messages: prompt } : { prompt }), ...more });
  const stream = (prompt) => streamText({ ...all, prompt });
  return {
    chat: async (prompt) => ({ text: (await ask(prompt)).text }),
    stream: async (prompt) => {
      const pieces = [];
      for await (const piece of stream(prompt).textStream) pieces.push(piece);
      return { pieces };
    },
    tools: async (prompt) => {
      const run = streamText({ ...all, prompt, tools: { weather }, stopWhen: isStepCount(5) });
      await run.consumeStream();
      const steps = await run.steps;
      const calls = steps.flatMap((step) => step.toolCalls.map((call) => [call.toolName, call.input]));
      return { calls, text: steps.at(-1).text };
    },
    "structured output": async (prompt) => ({ object: (await ask(prompt, { output: report })).output }),
    images: async (prompt) => {
      const shown = { type: "file", mediaType: "image/png", data: readFileSync(picture) };
      return { text: (await ask([{ role: "user", content: [{ type: "text", text: prompt }, shown] }])).text };
    },
    errors: async (prompt) => ({ busy: await raised(ask(`${prompt} (busy)`)), long: await raised(ask(`${prompt} (long)`)) }),
    counting: async (prompt) => {
      const run = stream(prompt);
      await run.consumeStream();
      return { whole: numbers((await ask(prompt)).usage), stream: numbers(await run.usage) };
    },
  };
};

const numbers = ({ inputTokens, outputTokens }) => [inputTokens, outputTokens];

async function raised(asked) {
  try {
    await asked;
    return { class: null };
  } catch (error) {
    return { class: error.name, status: error.statusCode ?? null, says: error.message };
  }
}

const apiKey = "any";
const openai = createOpenAI({ baseURL: `${gateway}/v1`, apiKey });
const compatible = createOpenAICompatible({
  name: "capstan", baseURL: `${gateway}/v1`, apiKey, includeUsage: true, supportsStructuredOutputs: true,
});
const anthropic = createAnthropic({ baseURL: `${gateway}/v1`, apiKey });
const rows = stored ? { "AI SDK, openai, with a Redis": scenariosOf(openai(model)) } : {
  "AI SDK, openai, `store: false`": scenariosOf(openai(model), { openai: { store: false } }),
  "AI SDK, openai, chat": scenariosOf(openai.chat(model)),
  "AI SDK, openai-compatible": scenariosOf(compatible(model)),
  "AI SDK, anthropic": scenariosOf(anthropic(model)),
};
const seen = {};
for (const [row, scenarios] of Object.entries(rows)) {
  seen[row] = {};
  for (const [does, scenario] of Object.entries(scenarios)) {
    try {
      seen[row][does] = await scenario(`[${row}|${does}] What is the weather in Oslo and in Rome?`);
    } catch (error) {
      seen[row][does] = { failed: `${error.stack}\n${error.responseBody ?? ""}` };
    }
  }
}
console.log(JSON.stringify(seen));
