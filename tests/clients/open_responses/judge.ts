// Judges bodies and events of /v1/responses with what the compliance suite of Open Responses judges them with: the zod
// schemas that kubb makes of the specification.
//
//   bun judge.ts SPECIFICATION FOLDER < VALUES
//
// VALUES is a JSON array of {"event": whether it is one of a stream, "value": ...}; FOLDER takes the schemas. Prints, in
// JSON, for each value a list of what it breaks.

import { build } from "@kubb/core";
import { pluginOas } from "@kubb/plugin-oas";
import { pluginZod } from "@kubb/plugin-zod";
import { join } from "node:path";
import type { ZodObject, ZodTypeAny } from "zod";

const [specification, folder] = process.argv.slice(2);
const made = await build({
  config: {
    root: folder,
    input: { path: specification },
    output: { path: join(folder, "made"), clean: true },
    plugins: [
      // As the suite makes them.
      pluginOas({ generators: [], discriminator: "inherit" }),
      pluginZod({ output: { path: "zod" }, importPath: join(import.meta.dir, "node_modules", "zod") }),
    ],
  },
});
if (made.error || made.failedPlugins.size > 0) throw made.error ?? new Error("kubb made no schemas");
const schemas: Record<string, ZodTypeAny> = await import(join(folder, "made", "zod", "index.ts"));
const events = Object.entries(schemas)
  .filter(([name]) => name.endsWith("StreamingEventSchema"))
  .map(([, schema]) => schema as ZodObject<any>);
if (events.length === 0) throw new Error("the specification has no events");

const judge = ({ event, value }: { event: boolean; value: any }): string[] => {
  const schema = event
    ? events.find(({ shape }) => typeof value?.type === "string" && shape.type.safeParse(value.type).success)
    : schemas.responseResourceSchema;
  if (schema === undefined) return [`${value?.type} is no event`];
  const found = schema.safeParse(value);
  return found.success ? [] : found.error.issues.map(({ path, message }) => `${path.join(".")}: ${message}`);
};
console.log(JSON.stringify((await Bun.stdin.json()).map(judge)));
