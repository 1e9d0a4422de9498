// The inbox: every question of every run, and who decided what.
import { html, useEffect, useState } from "../html.js";
import { get, poll, seg } from "../api.js";
import { route, setQuery } from "../router.js";
import { plural, said as worded } from "../format.js";
import { ask } from "../parts/ask.js";
import { Pick } from "../parts/pick.js";
import { ApprovalCard, decide, decider } from "../parts/approval.js";

const KINDS = [["pending", "Waiting"], ["decided", "Decided"], ["all", "All"]];

export function ApprovalsPage() {
  const { query } = route.value;
  const status = query.get("status") ?? "pending", service = query.get("service") ?? "",
    needle = query.get("q") ?? "";
  const [found, setFound] = useState(/** @type {Api.Approval[] | null} */ (null));
  const [failed, setFailed] = useState("");
  const [chosen, setChosen] = useState(/** @type {Set<string>} */ (new Set()));
  const load = async () => {
    try {
      const page = await get(`/approvals?status=${seg(status)}&limit=200${service ?
        `&service=${seg(service)}` : ""}`);
      setFound(page.approvals);
      setFailed("");
    } catch (error) {
      setFailed(error.message);
    }
  };
  useEffect(() => poll(3, load), [status, service]);
  useEffect(() => {
    document.title = "Approvals · agentdur";
  }, []);
  const shown = (found ?? []).filter((one) =>
    JSON.stringify([worded(one.question), one.payload, one.service, one.by,
    one.id]).toLowerCase().includes(needle.toLowerCase()));
  if (status !== "pending") shown.reverse();
  const services = [...new Set((found ?? []).map((one) => one.service))];
  const toggle = (id) => () => {
    const next = new Set(chosen);
    next.has(id) ? next.delete(id) : next.add(id);
    setChosen(next);
  };
  const bulk = async (how) => {
    const picked = shown.filter((one) => chosen.has(one.id) && one.status === "pending");
    const said = await ask({
      title: `${how === "approve" ? "Approve" : "Reject"} ${plural(picked.length, "question")}?`,
        action: how === "approve" ? "Approve all" : "Reject all", danger: how === "reject",
      fields: [{ name: "by", label: "Your name", value: decider() }, { name: "reason",
        label: "Reason (optional)", rows: 2 }],
    });
    if (!said) return;
    for (const one of picked) await decide(one, how, said);
    setChosen(new Set());
    load();
  };
  return html`<div class="stack">
    <div class="head"><h1>Approvals</h1><span class="grow"></span>
      <div class="segments" role="group" aria-label="Which">${KINDS.map(([name, text]) =>
        html`<button aria-pressed=${String(status === name)}
        onClick=${() => setQuery({ status: name === "pending" ? "" : name })}>${text}</button>`)}</div>
      ${(services.length > 1 || service) &&
        html`<${Pick} label="Service" all="all services" value=${service} options=${services}
        onPick=${(one) => setQuery({ service: one })} />`}
      <input type="search" data-filter placeholder="Filter" aria-label="Filter" value=${needle}
        onInput=${(e) => setQuery({ q: e.target.value })} />
    </div>
    ${chosen.size > 0 && html`<div class="card pad row"><b>${chosen.size} chosen</b>
      <button class="good" onClick=${() => bulk("approve")}>Approve…</button>
      <button class="danger" onClick=${() => bulk("reject")}>Reject…</button><span class="grow"></span>
      <button class="plain" onClick=${() => setChosen(new Set())}>none</button></div>`}
    ${failed && html`<p class="note failed" role="alert">${failed}</p>`}
    ${found && !shown.length && html`<div class="card empty"><b>${status === "pending" ?
      "Nobody waits for a decision" : "Nothing here"}</b>${status === "pending" ?
      "Questions of all runs come here as they are asked." : "No approval fits."}</div>`}
    ${shown.map((one) => html`<${ApprovalCard} key=${one.id} record=${one} onDecided=${load}
      selected=${chosen.has(one.id)} onSelect=${toggle(one.id)} />`)}
  </div>`;
}

export function ApprovalPage({ id }) {
  const [record, setRecord] = useState(/** @type {Api.Approval | null} */ (null));
  const [failed, setFailed] = useState(/** @type {import("../api.js").ApiError | null} */ (null));
  const load = () => get(`/approvals/${seg(id)}`).then((found) => {
    setRecord(found);
    setFailed(null);
  }, setFailed);
  useEffect(() => poll(3, load), [id]);
  useEffect(() => {
    document.title = "Approval · agentdur";
  }, []);
  if (failed?.status === 404) return html`<div class="card empty"><b>No such approval</b>${failed.message}
    </div>`;
  return html`<div class="stack"><h1>Approval</h1>${failed &&
    html`<p class="note failed" role="alert">${failed.message}</p>`}${record &&
    html`<${ApprovalCard} record=${record} onDecided=${setRecord} />`}</div>`;
}
