// Budgets: what may be spent, what is, what calls under way hold, and what is left.
import { html, useEffect, useState } from "../html.js";
import { get, poll, seg } from "../api.js";
import { count, money, span } from "../format.js";

const amount = (unit, value) => (unit === "cost" ? money(value) : unit === "seconds" ? span(value * 1000) :
  count(value));

function Limit({ unit, allowed, spent, held, over }) {
  const left = Math.max(0, allowed - spent);
  const tone = left <= 0 ? "gone" : spent + held >= 0.8 * allowed ? "low" : "";
  const width = `${Math.min(100, (100 * spent) / allowed)}%`;
  return html`<div class="limit ${over ? "" : tone}"><div class="row"><span class="grow">${unit}</span>
      <span class="small soft num">${over ? "at most " : `${amount(unit, spent)} of `}${amount(unit, allowed)}
        ${held ? `, ${amount(unit, held)} held` : ""}</span>
      ${!over && html`<b class="num">${amount(unit, left)} left</b>`}</div>
    ${!over && html`<div class="meter" aria-hidden="true"><i style=${{ width }}></i></div>`}
  </div>`;
}

/** @param {{all: any[], over?: boolean}} props `over`: the time of a handler's own budgets is over */
export const Budgets = ({ all, over = false }) => html`<div class="budgets">${all.map((one) =>
  html`<article key=${one.account ?? one.key} class="stack tight">
    <p><b>${one.name || one.account || "a budget"}</b> <span class="small soft">${one.account ? "shared" :
      "of this handler"}, then ${one.on_limit}${one.raises ? `, raised ${one.raises}×` : ""}</span></p>
    ${one.account && one.name && one.account !== one.name && html`<p class="small"><code>${one.account}</code>
      </p>`}
    ${one.limits.map((limit) => html`<${Limit} key=${limit.unit} ...${limit}
      over=${over && !one.account && limit.unit === "seconds"} />`)}</article>`)}</div>`;

/** Budgets in the handler's memory, as its last model call under each has left them. */
function own(steps) {
  const found = new Map();
  for (const step of steps) {
    const told = step.meta?.budgets;
    for (const one of Array.isArray(told) ? told : []) {
      const key = `${one.depth} ${one.name}`;
      found.set(key, { key, name: one.name, on_limit: one.on_limit,
        limits: Object.entries(one.limits).map(([unit, allowed]) => ({ unit, allowed, held: 0,
          spent: unit === "seconds" ? (Date.now() - one.began) / 1000 : one.spent[unit] ?? 0 })) });
    }
  }
  return [...found.values()];
}

/** What binds a run: its own budgets, and the accounts that it and whoever it calls spend from. */
export function RunBudgets({ journal, version, over }) {
  const keys = new Set((journal.steps[0]?.row.budgets ?? []).map((one) => one.account));
  for (const step of journal.steps)
    if (step.kind === "Run" && step.name === "budget" && step.value?.limits) keys.add(step.value.key);
  const wanted = [...keys].slice(0, 100).map((key) => `account=${seg(key)}`).join("&");
  const [shared, setShared] = useState([]);
  useEffect(() => (wanted ? poll(4, async () => setShared((await get(`/budgets?${wanted}`)).budgets)) :
    undefined), [wanted]);
  const all = [...own(journal.steps), ...shared];
  return all.length ? html`<section class="card"><header><h2>Budgets</h2></header>
    <div class="pad"><${Budgets} all=${all} over=${over} /></div></section>` : null;
}
