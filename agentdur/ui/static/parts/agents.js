// Who did what in a run: its agents, what they handed over, their tools, and the runs they called, added up.

const OVER = /^transfer_to_/;
/** The id of the tool call in whose branch something happened: the innermost one. */
const CALL = /(?:^|\/)tool:([^/]+?)(?:~\d+)?(?=\/|$)/g;

/**
 * @typedef {{key: string, kind: "run" | "agent" | "tool" | "call", name: string, count: number,
 *   failed: number, open: number, asked: number, calls: number, tokens: number, cost: number | null,
 *   took: number, models: Set<string>, ids: string[], step: number | null, children: Node[], all: Sums}} Node
 * @typedef {{calls: number, tokens: number, cost: number | null}} Sums
 * @typedef {{from: Node, to: Node, count: number}} Handoff
 */

/** @returns {Node} */
const node = (key, kind, name) => ({ key, kind, name, count: 0, failed: 0, open: 0, asked: 0, calls: 0,
  tokens: 0, cost: null, took: 0, models: new Set(), ids: [], step: null, children: [],
  all: { calls: 0, tokens: 0, cost: null } });

/**
 * The tree of one run. `find` gives the journal of a called run, or null when nobody has looked into it.
 * @param {string} name
 * @param {import("./journal.js").Journal} journal
 * @param {(id: string) => import("./journal.js").Journal | null} find
 * @returns {{root: Node, handoffs: Handoff[]}}
 */
export function agentsOf(name, journal, find) {
  const root = node("run", "run", name);
  const handoffs = [];
  root.count = 1;
  grow(root, journal, handoffs, find, new Set());
  sum(root);
  return { root, handoffs };
}

function grow(root, journal, handoffs, find, above) {
  const calls = new Map(), pending = new Map(), spoke = new Map();
  const around = (step) => {
    const [last] = [...step.branch.matchAll(CALL)].slice(-1);
    return (last && calls.get(last[1])) ?? null;
  };
  const handed = (step, to) => {
    const from = pending.get(step.branch);
    if (!from || from === to) return;
    pending.delete(step.branch);
    const known = handoffs.find((one) => one.from === from && one.to === to);
    if (known) known.count++;
    else handoffs.push({ from, to, count: 1 });
  };
  for (const step of journal.steps) {
    if (step.plumbing) continue;
    if (step.type === "llm") {
      const agent = below(around(step) ?? root, "agent", step.role ?? step.name);
      model(agent, step);
      handed(step, agent);
      spoke.set(step.branch, agent);
      for (const call of step.value?.message?.tool_calls ?? []) {
        const asked = call.function?.name ?? "";
        if (OVER.test(asked)) pending.set(step.branch, agent);
        else {
          const tool = below(agent, "tool", asked);
          tool.count++;
          tool.step ??= step.index;
          calls.set(call.id, tool);
        }
      }
    } else if (step.type === "tool") {
      const found = around(step) ?? stray(spoke.get(step.branch) ?? root, step);
      timed(found, step);
    } else if (step.type === "approval") {
      const found = around(step);
      if (found) found.asked++;
    } else if (step.type === "call" || step.type === "send") {
      const called = below(around(step) ?? root, "call", `${step.row.service}/${step.row.handler}`);
      called.count++;
      called.step ??= step.index;
      timed(called, step);
      handed(step, called);
      if (step.child) called.ids.push(step.child);
      const inner = step.child && !above.has(step.child) ? find(step.child) : null;
      if (inner) grow(called, inner, handoffs, find, new Set([...above, step.child]));
    }
  }
}

/** A tool's step whose call nobody knows: a framework's own, or an answer that was cut. */
function stray(agent, step) {
  const tool = below(agent, "tool", step.tool.split("/").pop());
  tool.count++;
  return tool;
}

function below(parent, kind, name) {
  const key = `${parent.key}/${kind}:${name}`;
  let found = parent.children.find((one) => one.key === key);
  if (!found) parent.children.push((found = node(key, kind, name)));
  return found;
}

function model(agent, step) {
  agent.count++;
  agent.calls++;
  agent.step ??= step.index;
  timed(agent, step);
  if (!step.meta) return;
  agent.tokens += (step.meta.prompt_tokens ?? 0) + (step.meta.completion_tokens ?? 0);
  if (step.meta.cost != null) agent.cost = (agent.cost ?? 0) + step.meta.cost;
  if (step.meta.model) agent.models.add(step.meta.model);
}

function timed(one, step) {
  one.step ??= step.index;
  if (step.state === "failed") one.failed++;
  if (step.end != null) one.took += step.end - step.at;
  else one.open++;
}

/** What a node and all below it used. */
function sum(one) {
  one.all = { calls: one.calls, tokens: one.tokens, cost: one.cost };
  for (const child of one.children) {
    const { calls, tokens, cost } = sum(child);
    one.all.calls += calls;
    one.all.tokens += tokens;
    if (cost != null) one.all.cost = (one.all.cost ?? 0) + cost;
  }
  return one.all;
}

/** Ids of called runs, to be looked into: those of a journal, in its order. */
export const calledBy = (journal) => journal.steps.filter((step) =>
  (step.type === "call" || step.type === "send") && !step.plumbing && step.child).map((step) => step.child);

/** Each node beside how deep it is, in the order in which they are drawn. */
export function* walk(one, depth = 0) {
  yield [one, depth];
  for (const child of one.children) yield* walk(child, depth + 1);
}
