// Columns over time: a few rectangles, and what they say in words.
import { html } from "../html.js";
import { clock, count, now, stamp } from "../format.js";

const SLOTS = 60;

/**
 * @param {{data: any[], parts: [string, string][], bucket: number, label: string,
 *   show?: (n: number) => string}} props `bucket` in seconds
 */
export function Columns({ data, parts, bucket, label, show = count }) {
  const last = Math.floor(now.peek() / 1000 / bucket) * bucket, first = last - (SLOTS - 1) * bucket;
  const by = new Map(data.map((one) => [Number(one.t), one]));
  const sum = (one) => parts.reduce((all, [name]) => all + (one?.[name] ?? 0), 0);
  const most = Math.max(...data.map(sum), 0);
  const total = data.reduce((all, one) => all + sum(one), 0);
  return html`<figure class="chart"><div class="tall soft small num">${most ? show(most) : ""}</div>
    <svg viewBox="0 0 600 110" preserveAspectRatio="none" role="img"
      aria-label=${`${label}: ${show(total)} in all`}>
      <line x1="0" x2="600" y1="109.5" y2="109.5" class="base" />
      ${most > 0 && Array.from({ length: SLOTS }, (_, i) => {
        const one = by.get(first + i * bucket);
        let y = 109;
        return parts.map(([name, tone]) => {
          const height = (104 * (one?.[name] ?? 0)) / most;
          if (!height) return null;
          y -= Math.max(1.5, height);
          return html`<rect x=${i * 10 + 1} y=${y} width="8" height=${Math.max(1.5, height)} rx="1.5"
            class="c-${tone}"><title>${stamp((first + i * bucket) * 1000)}: ${name} ${show(one[name])}
            </title></rect>`;
        });
      })}
    </svg>
    <figcaption class="row small soft num"><span class="grow">${stampShort(first)}</span>
      <span>${clock(now.value)}</span></figcaption></figure>`;
}

const stampShort = (t) => new Date(t * 1000).toLocaleString([], { month: "short", day: "numeric",
  hour: "2-digit", minute: "2-digit" });
