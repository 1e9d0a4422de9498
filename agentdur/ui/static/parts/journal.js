// A journal as steps: each command with what came back to it, typed by what it is for an agent.
import { ms, redacted } from "../format.js";

const INTERNAL = "agentdur.";
const TYPES = {
  Input: "input", Output: "output", Run: "run", Call: "call", OneWayCall: "send", Sleep: "sleep",
  GetEagerState: "state", GetLazyState: "state", SetState: "state", ClearState: "state",
    ClearAllState: "state",
  GetEagerStateKeys: "state", GetLazyStateKeys: "state", GetPromise: "promise", PeekPromise: "promise",
  CompletePromise: "promise", SendSignal: "signal", AttachInvocation: "attach", GetInvocationOutput: "attach",
  CompleteAwakeable: "signal",
};

/**
 * A command, with what came back to it; or a signal that came.
 * @typedef {{index: number, kind: string, type: string, name: string, branch: string, at: number,
 *   end: number | null, endIndex: number | null, state: "open" | "ok" | "failed" | "refused",
 *   value: Api.Payload, given: Api.Payload, failure: Api.Failure | undefined, meta: Api.Note | null,
 *   child: string | null, row: Api.Row, plumbing: boolean, rev: number, role?: string, tool?: string,
 *   approval?: string, asked?: Api.Payload, verdict?: Api.Payload}} Step
 */

export class Journal {
  constructor() {
    /** @type {Step[]} */
    this.steps = [];
    this.byCompletion = /** @type {Map<number, Step>} */ (new Map());
    this.byIndex = /** @type {Map<number, Step>} */ (new Map());
    this.approvals = /** @type {Map<string, Step>} */ (new Map());
    /** Approvals of which it is hidden which ones they are, oldest first. */
    this.unnamed = /** @type {Step[]} */ ([]);
    this.toolCalls = /** @type {Map<string, {name?: string, arguments: any}>} */ (new Map());
    this.last = -1;
    this.first = /** @type {number | null} */ (null);
    this.latest = /** @type {number | null} */ (null);
    this.sums = { calls: 0, prompt: 0, completion: 0, cost: /** @type {number | null} */ (null) };
    this.children = /** @type {Step[]} */ ([]);
    /** Steps ahead of the newest answer: how far anything has got. */
    this.rev = 0;
  }

  /** Take rows behind those that are known; the others are left out. */
  add(/** @type {Api.Row[]} */ rows) {
    this.rev++;
    for (const row of rows) {
      if (row.index <= this.last) continue;
      this.last = row.index;
      const at = ms(row.at) ?? this.latest ?? 0;
      this.first ??= at;
      this.latest = Math.max(this.latest ?? at, at);
      if (row.kind === "Completion") this.#complete(row, at);
      else if (row.kind === "Signal") this.#signal(row, at);
      else this.#command(row, at);
    }
  }

  #command(/** @type {Api.Row} */ row, /** @type {number} */ at) {
    /** @type {Step} */
    const step = {
      index: row.index, kind: row.kind, type: TYPES[row.kind] ?? "run", name: row.name ?? "",
        branch: row.branch ?? "",
      at, end: null, endIndex: null, state: "open", value: undefined, given: undefined, failure: row.failure,
        meta: null,
      child: null, row, plumbing: false, rev: this.rev,
    };
    if (step.type === "run") this.#nameRun(step);
    if (row.service?.startsWith(INTERNAL)) {
      step.plumbing = true;
      if (row.service === "agentdur.Approval" && row.handler === "open") {
        const asked = this.approvals.get(row.key ?? "");
        if (asked) Object.assign(asked, { asked: row.value, rev: this.rev });
      }
    }
    if (["Call", "OneWayCall", "SetState"].includes(row.kind)) step.given = row.value;
    else if (["Input", "Output", "GetEagerState"].includes(row.kind)) step.value = row.value;
    if (row.completion_id != null) this.byCompletion.set(row.completion_id, step);
    if (row.id_completion_id != null) this.byCompletion.set(row.id_completion_id, step);
    const waits = row.completion_id != null || row.kind === "OneWayCall";
    if (!waits) this.#end(step, at, row.index, row.failure);
    this.steps.push(step);
    this.byIndex.set(row.index, step);
  }

  #nameRun(/** @type {Step} */ step) {
    if (step.name.startsWith("llm:")) Object.assign(step, { type: "llm", role: step.name.slice(4) });
    else if (step.name.startsWith("tool:")) {
      const call = this.toolCalls.get(
        (step.branch.split("/").pop() ?? "").replace(/^tool:/, "").split("~")[0]);
      Object.assign(step, { type: "tool", tool: step.name.slice(5), given: call?.arguments });
    } else if (step.name === "stream" || step.name.startsWith("intent:")) step.plumbing = true;
  }

  #complete(/** @type {Api.Row} */ row, /** @type {number} */ at) {
    const step = this.byCompletion.get(row.completion_id ?? -1);
    if (!step) return;
    step.rev = this.rev;
    this.byIndex.set(row.index, step);
    if (row.of === "CallId") {
      step.child = row.invocation_id ?? null;
      if (!step.plumbing) this.children.push(step);
      if (step.kind === "OneWayCall") this.#end(step, at, row.index, undefined);
      return;
    }
    step.value = row.value ?? (row.keys ? row.keys : undefined);
    step.meta = row.meta ?? null;
    this.#end(step, at, row.index, row.failure);
    if (step.meta?.model != null) this.#model(step);
    if (step.name === "approval" && String(row.value?.id ?? "").startsWith("apr_")) {
      Object.assign(step, { type: "approval", approval: row.value.id, asked: row.value, state: "open",
        end: null });
      this.approvals.set(row.value.id, step);
    } else if (step.name === "approval" && redacted(row.value)) { // the signal will say which one it is
      Object.assign(step, { type: "approval", state: "open", end: null });
      this.unnamed.push(step);
    }
  }

  #model(/** @type {Step} */ step) {
    const meta = step.meta ?? {}, { sums } = this;
    step.type = "llm";
    sums.calls++;
    sums.prompt += meta.prompt_tokens ?? 0;
    sums.completion += meta.completion_tokens ?? 0;
    if (meta.cost != null) sums.cost = (sums.cost ?? 0) + meta.cost;
    for (const call of step.value?.message?.tool_calls ?? [])
      this.toolCalls.set(call.id, { name: call.function?.name, arguments: parsed(call.function?.arguments) });
  }

  #signal(/** @type {Api.Row} */ row, /** @type {number} */ at) {
    const name = String(row.signal);
    const [what, id] = name.split("/");
    const asked = what === "approval" ? this.approvals.get(id) ?? this.unnamed.shift() : null;
    if (asked) {
      const unsaid = redacted(row.value), yes = unsaid || row.value?.approved === true;
      Object.assign(asked, { approval: id, verdict: unsaid ? null : row.value, rev: this.rev });
      this.#end(asked, at, row.index, undefined);
      asked.state = yes ? "ok" : "refused";
      return;
    }
    const cancel = row.signal === 1;
    /** @type {Step} */
    const step = {
      index: row.index, kind: "Signal", type: cancel ? "cancel" : "signal", name: cancel ? "cancel" : name,
        branch: "",
      at, end: at, endIndex: row.index, state: row.failure ? "failed" : "ok", value: row.value,
        given: undefined, failure: row.failure,
      meta: null, child: null, row, plumbing: false, rev: this.rev,
    };
    this.steps.push(step);
    this.byIndex.set(row.index, step);
  }

  /** @param {Step} step @param {number} at @param {number} index @param {Api.Failure} [failure] */
  #end(step, at, index, failure) {
    step.end = at;
    step.endIndex = index;
    step.failure = failure;
    step.state = failure ? "failed" : "ok";
  }
}

/** JSON text as a value; itself when it is none. */
export function parsed(text) {
  try {
    return typeof text === "string" ? JSON.parse(text) : text;
  } catch {
    return text;
  }
}

/**
 * How a step reads: `name`, and what stands in the brackets.
 * @param {Step} step
 */
export function words(step) {
  const { row } = step;
  const key = row.key != null && row.service ? `${row.service}("${row.key}")` : row.service;
  switch (step.type) {
    case "input": return ["input", ""];
    case "output": return [step.failure ? "raise" : "return", ""];
    case "llm": return ["llm", step.role ?? step.name];
    case "tool": return ["tool", step.tool ?? step.name];
    case "approval": return ["approval", step.asked?.question ?? ""];
    case "call": return ["call", `${key}.${row.handler}`];
    case "send": return ["send", `${key}.${row.handler}`];
    case "sleep": return ["sleep", step.name];
    case "state": return [stateVerb(step.kind), row.key ?? ""];
    case "promise": return [step.kind === "CompletePromise" ? "resolve promise" : "promise", row.key ?? ""];
    case "signal": return [step.kind === "Signal" ? (/^\d+$/.test(step.name) ? "awakeable" : "signal") :
      "send signal", step.kind === "Signal" ? step.name : String(row.signal ?? row.awakeable ?? "")];
    case "cancel": return ["cancel", ""];
    case "attach": return ["attach", step.name];
    default: return ["run", step.name];
  }
}

const stateVerb = (kind) => (kind.startsWith("Set") ? "set" : kind === "ClearState" ? "clear" :
  kind.startsWith("Clear") ? "clear all" : kind.endsWith("Keys") ? "keys" : "get");
