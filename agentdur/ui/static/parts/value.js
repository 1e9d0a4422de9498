// Payloads: whatever they hold, they are text. Large ones are cut until somebody asks for all.
import { html, useState } from "../html.js";
import { cut, bytes, redacted, secret } from "../format.js";

const MOST = 6000;
const TOKEN = /("(?:\\.|[^"\\])*")(\s*:)?|(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)|\b(true|false|null)\b/g;

/** JSON with colours: text nodes only. */
function coloured(text) {
  const out = [];
  let at = 0;
  for (const m of text.matchAll(TOKEN)) {
    if (m.index > at) out.push(text.slice(at, m.index));
    const kind = m[1] ? (m[2] ? "key" : "str") : m[3] ? "num" : "lit";
    out.push(html`<span class="tok-${kind}">${m[1] ?? m[0]}</span>`);
    if (m[2]) out.push(m[2]);
    at = m.index + m[0].length;
  }
  out.push(text.slice(at));
  return out;
}

export function asText(value) {
  return typeof value === "string" ? value : JSON.stringify(value, null, 2) ?? "";
}

/** In place of a payload that who looks may not see. */
export const Hidden = ({ value }) => html`<p><span class="tag"
  title=${`Your role sees no payloads. Equal ones have the same mark: ${value.hash}`}>${secret(value)}
</span></p>`;

/** @param {{value: any, load?: () => Promise<any>, label?: string}} props `load` fetches what was cut. */
export function Value({ value, load, label = "value" }) {
  const [whole, setWhole] = useState(undefined);
  const [all, setAll] = useState(false);
  const [failed, setFailed] = useState("");
  const now = whole === undefined ? value : whole;
  if (now === undefined || now === null) return html`<p class="soft small">nothing</p>`;
  if (redacted(now)) return html`<${Hidden} value=${now} />`;
  const missing = cut(now);
  const text = missing ? `${now.preview}…` : asText(now);
  const long = text.length > MOST && !all;
  const shown = long ? text.slice(0, MOST) : text;
  const fetchAll = () => load?.().then(setWhole, (error) => setFailed(error.message));
  const copy = () => navigator.clipboard?.writeText(text);
  return html`<div class="value">
    <div class="tools">
      ${missing && load && html`<button class="plain" onClick=${fetchAll}>load all ${bytes(now.bytes)}
        </button>`}
      ${!missing && html`<button class="icon" onClick=${copy} aria-label=${`copy ${label}`}>copy</button>`}
    </div>
    <pre tabindex="0" role="group" aria-label=${label}>${typeof now === "string" || missing || text.length >
      60_000 ? shown : coloured(shown)}${long && "…"}</pre>
    ${long && html`<p class="pad small"><button class="plain" onClick=${() =>
      setAll(true)}>show all ${bytes(text.length)}</button></p>`}
    ${failed && html`<p class="pad small" role="alert">${failed}</p>`}
  </div>`;
}
