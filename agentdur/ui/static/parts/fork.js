// Start again from a row with another value in its place, and look at both runs.
import { post, seg } from "../api.js";
import { go } from "../router.js";
import { ask, attempt } from "./ask.js";
import { asText } from "./value.js";

export async function fork(run, step, load) {
  const value = await attempt(load);
  if (value === undefined) return;
  const from = step.type === "input" ? step.index : step.endIndex;
  const said = await ask({
    title: step.type === "input" ? "Run again with another input" : "Run on with another result",
    text: "A new invocation keeps the journal up to this row, with this value in it. This one stays.",
    fields: [{ name: "value", label: "Value (JSON)", rows: 12, json: true, value: value === true ? "null" :
      asText(JSON.stringify(value, null, 2)) }],
    action: "Fork",
  });
  if (!said) return;
  const made = await attempt(() => post(`/invocations/${seg(run.id)}/fork`, { from,
    edits: { [from]: said.value } }));
  if (made) go(`/compare?a=${run.id}&b=${made.new_invocation_id}`);
}
