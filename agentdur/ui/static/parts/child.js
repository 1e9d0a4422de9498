// A child run inside its caller's journal, on the same time axis.
import { html, useEffect, useMemo } from "../html.js";
import { href } from "../router.js";
import { count, money, plural, short } from "../format.js";
import { Run } from "../live.js";
import { Status } from "./status.js";
import { Group, chosen, groups, stampOf } from "./timeline.js";

const SECONDS = 1.5;

export function Child({ id, scale, depth }) {
  const run = useMemo(() => new Run(id), [id]);
  useEffect(() => run.keep(SECONDS), [run]);
  const about = run.about.value, version = run.version.value;
  if (!about) return html`<p class="soft small">${run.error.value ? run.error.value.message : "…"}</p>`;
  const { sums } = run.journal;
  return html`<section class="child" aria-label=${about.target} data-version=${version}>
    <div class="row small"><a class="mono" href=${href(`/invocations/${id}`)}>${about.target} · ${short(id)}
      </a><${Status} run=${about} />
      ${sums.calls > 0 && html`<span class="tag num">∑ ${plural(sums.calls,
        "model call")} · ${count(sums.prompt +
        sums.completion)} tokens${sums.cost != null ? ` · ${money(sums.cost)}` : ""}</span>`}</div>
    <div class="rows" role="list">${groups(chosen(run.journal.steps, false, "")).map((group, i) =>
      html`<${Group} key=${i} steps=${group} stamp=${stampOf(group)} scale=${scale} about=${about} run=${run}
      depth=${depth} eager=${false} />`)}</div>
  </section>`;
}
