// A model's words: bold, code and headings as they are meant, all else as it is. Nothing becomes markup.
import { html } from "../html.js";

const MOST = 20_000;
const FENCE = /^```[^\n]*\n([\s\S]*?)(?:\n```[ \t]*$|(?![\s\S]))/gm;
const INLINE = /`([^`\n]+)`|\*\*([^*\n]+)\*\*|^#{1,6} +(.+)$/gm;

/** The pieces of a text between what fits, and what is made of each that does. */
function pieces(text, pattern, made, between) {
  const out = [];
  let at = 0;
  for (const found of text.matchAll(pattern)) {
    if (found.index > at) out.push(between(text.slice(at, found.index)));
    out.push(made(found));
    at = found.index + found[0].length;
  }
  if (at < text.length) out.push(between(text.slice(at)));
  return out;
}

const inline = (text) => pieces(text, INLINE, ([, code, bold, heading]) =>
  (code ? html`<code>${code}</code>` : html`<b>${bold ?? heading}</b>`), (plain) => plain);

/** @param {{text: string}} props */
export const Prose = ({ text }) => html`<div class="bubble">${pieces(text.slice(0, MOST), FENCE,
  ([, code]) => html`<pre class="fenced" tabindex="0" role="group" aria-label="code">${code}</pre>`,
  inline)}${text.length > MOST && "…"}</div>`;
