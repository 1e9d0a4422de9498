// A turn of a model: what it was told, what it could use, what it said, what it cost.
import { html, useEffect, useState } from "../html.js";
import { get, seg } from "../api.js";
import { count, cut, money, span } from "../format.js";
import { seesPayloads } from "../me.js";
import { parsed } from "./journal.js";
import { Prose } from "./prose.js";
import { Value } from "./value.js";

const TABS = [["answer", "Answer"], ["messages", "Messages"], ["tools", "Tools"], ["raw", "Raw"]];

/** @param {{step: import("./journal.js").Step, run: import("../live.js").Run}} props */
export function ModelTurn({ step, run }) {
  const [tab, setTab] = useState("answer");
  const [value, setValue] = useState(step.value);
  const meta = step.meta ?? {};
  const load = async () => (await get(`/invocations/${seg(run.id)}/entries/${step.endIndex}`)).value;
  useEffect(() => {
    if (cut(step.value)) load().then(setValue, () => {});
  }, [step]);
  return html`<dl class="facts">
      <${Fact} name="Model" value=${meta.asked && meta.asked !== meta.model ?
        `${meta.model} (asked: ${meta.asked})` : meta.model} />
      <${Fact} name="Tokens in" value=${count(meta.prompt_tokens)} />
      <${Fact} name="Tokens out" value=${count(meta.completion_tokens)} />
      <${Fact} name="Cost" value=${money(meta.cost)} />
      <${Fact} name="Latency" value=${span(meta.latency_ms)} />
      <${Fact} name="First token" value=${span(meta.first_token_ms)} />
      <${Fact} name="Ended" value=${value?.finish_reason ?? meta.finish_reason} />
      <${Fact} name="Why this model" value=${meta.why} />
    </dl>
    <div class="segments" role="group" aria-label="Parts of the turn">
      ${TABS.map(([name, text]) => html`<button aria-pressed=${String(tab === name)}
        onClick=${() => setTab(name)}>${text}${name === "messages" && meta.messages ? ` ${meta.messages}` :
        ""}</button>`)}
    </div>
    ${tab === "answer" && html`<${Message} message=${value?.message
      ?? { role: "assistant", content: value }} />`}
    ${tab === "messages" && html`<${Chain} hash=${meta.conversation}
      render=${(all) => all.map((m, i) => html`<${Message} key=${i} message=${m} />`)} />`}
    ${tab === "tools" && html`<${Chain} hash=${meta.tools} render=${(all) =>
      (all[0]?.tools ?? []).map((t) => html`<${ToolSpec} key=${t.function?.name} spec=${t} />`)}
      none="No tools were offered." />`}
    ${tab === "raw" && html`<${Value} value=${value} load=${load} label="raw answer" />`}`;
}

export const Fact = ({ name, value }) =>
  (value == null || value === "" ? null : html`<div><dt>${name}</dt><dd>${value}</dd></div>`);

function Chain({ hash, render, none = "The messages of this turn are not kept." }) {
  const [found, setFound] = useState(/** @type {any[] | null | undefined} */ (undefined));
  useEffect(() => {
    if (!seesPayloads()) return;
    if (hash) get(`/conversations/${seg(hash)}`).then((all) => setFound(all.messages), () => setFound(null));
    else setFound(null);
  }, [hash]);
  if (!seesPayloads()) return html`<p class="soft">Hidden: your role sees no payloads.</p>`;
  if (found === undefined) return html`<p class="soft">…</p>`;
  return found ? html`<div class="stack tight">${render(found)}</div>` : html`<p class="soft">${none}</p>`;
}

function ToolSpec({ spec }) {
  const about = spec.function ?? spec;
  return html`<details class="spec"><summary><b class="mono">${about.name ??
    spec.type}</b> <span class="soft">${about.description}</span></summary><${Value} value=${about.parameters
    ?? spec} label="parameters" /></details>`;
}

/** One message in OpenAI's shape. */
export function Message({ message, aside }) {
  const { role = "assistant", content, tool_calls: calls = [], name } = message;
  const text = typeof content === "string" ? content : Array.isArray(content) ?
    content.map((part) => part.text ?? `[${part.type}]`).join("\n") : content == null ? "" : null;
  return html`<div class="message m-${role}">
    <div class="who small"><b>${role}</b>${name &&
      html` <span class="soft">${name}</span>`}${message.tool_call_id &&
      html` <code class="soft">${message.tool_call_id}</code>`}${aside}</div>
    ${text === null ? html`<${Value} value=${content} label="content" />` : text &&
      html`<${Prose} text=${text} />`}
    ${message.reasoning_content && html`<details class="small"><summary>reasoning</summary>
      <p class="bubble">${message.reasoning_content}</p></details>`}
    ${calls.map((call) => html`<div class="toolcall" key=${call.id}>
      <span class="glyph g-tool" aria-hidden="true">⚒</span>
      <div class="grow"><b class="mono">${call.function?.name}</b>
      <${Value} value=${parsed(call.function?.arguments)} label="arguments" /></div></div>`)}
    ${!text && !calls.length && text !== null && html`<p class="soft small">empty</p>`}
  </div>`;
}
