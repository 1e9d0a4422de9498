// What is served, and a playground for each handler.
import { html, useEffect, useState } from "../html.js";
import { get, post, seg } from "../api.js";
import { needs, whyNot } from "../me.js";
import { go, href } from "../router.js";
import { attempt } from "../parts/ask.js";
import { Fact } from "../parts/llm.js";
import { Form, sample } from "../parts/form.js";
import { Value } from "../parts/value.js";

/** Handlers that every chat has. */
const CHAT = ["post", "turn", "history"];
const KINDS = { Service: "service", VirtualObject: "virtual object", Workflow: "workflow" };

export function ServicesPage() {
  const [found, setFound] = useState(/** @type {Api.Service[] | null} */ (null));
  const [needle, setNeedle] = useState("");
  useEffect(() => {
    document.title = "Services · agentdur";
    get("/services").then((all) => setFound(all.services), () => setFound([]));
  }, []);
  const shown = (found ?? []).filter((one) =>
    `${one.name} ${one.handlers.map((h) => h.name).join(" ")}`.toLowerCase().includes(needle.toLowerCase()));
  return html`<div class="stack">
    <div class="head"><h1>Services</h1><span class="grow"></span>
      <input type="search" data-filter placeholder="Filter" aria-label="Filter" value=${needle}
      onInput=${(e) => setNeedle(e.target.value)} /></div>
    ${found && !shown.length && html`<div class="card empty">
      <b>No services</b>Serve an App, or register a deployment.</div>`}
    <div class="tiles">${shown.map((one) => html`<article class="card pad stack tight" key=${one.name}>
      <div class="row"><h2><a class="rowlink" href=${href(`/services/${seg(one.name)}`)}>${one.name}</a></h2>
        <span class="tag">${KINDS[one.ty] ?? one.ty}</span>${!one.public &&
        html`<span class="tag">private</span>`}</div>
      ${one.documentation && html`<p class="small soft">${one.documentation}</p>`}
      <ul class="plainlist">${one.handlers.map((h) =>
        html`<li key=${h.name}>
        <a class="mono" href=${href(`/services/${seg(one.name)}?handler=${seg(h.name)}`)}>${h.name}</a> <span
        class="soft small">${h.input_description === "none" ? "" : h.input_description}</span></li>`)}</ul>
      <p class="small soft"><a href=${href(one.deployment_id ? `/deployments/${seg(one.deployment_id)}` :
        "/deployments")}>${one.deployment_id || "in this process"}</a> · revision ${one.revision}</p>
    </article>`)}</div>
  </div>`;
}

export function ServicePage({ name }) {
  const [service, setService] = useState(/** @type {Api.Service | null} */ (null));
  const [failed, setFailed] = useState("");
  const asked = new URLSearchParams(location.search).get("handler");
  const [chosen, setChosen] = useState(asked);
  useEffect(() => {
    document.title = `${name} · agentdur`;
    get(`/services/${seg(name)}`).then(setService, (error) => setFailed(error.message));
  }, [name]);
  if (failed) return html`<div class="card empty"><b>No such service</b>${failed}</div>`;
  if (!service) return html`<p class="soft">…</p>`;
  const handler = service.handlers.find((one) => one.name === chosen) ?? service.handlers[0];
  const policy = service.retry_policy;
  return html`<div class="stack">
    <div class="head"><div class="grow"><p class="small soft crumbs">
      <a href=${href("/services")}>services</a></p><h1>${service.name}</h1></div>
      <span class="tag">${KINDS[service.ty] ??
        service.ty}</span><a class="button" href=${href(`/invocations?service=${seg(name)}`)}>Invocations</a>
        ${service.ty !== "Service" &&
        html`<a class="button" href=${href(`/objects?service=${seg(name)}`)}>Keys</a>`}
        ${CHAT.every((one) => service.handlers.some((h) => h.name === one)) &&
        html`<a class="button" href=${href(`/sessions?agent=${seg(name)}`)}>Sessions</a>`}</div>
    ${service.documentation && html`<p class="soft">${service.documentation}</p>`}
    <dl class="facts"><${Fact} name="Deployment" value=${html`<a
      href=${href(service.deployment_id ? `/deployments/${seg(service.deployment_id)}` : "/deployments")}>
      ${service.deployment_id || "in this process"}</a>`} />
      <${Fact} name="Revision" value=${service.revision} />
      <${Fact} name="Journal kept" value=${service.journal_retention} />
      <${Fact} name="Idempotency" value=${service.idempotency_retention} />
      <${Fact} name="Inactivity" value=${service.inactivity_timeout} />
      <${Fact} name="Retries" value=${policy &&
        retries(policy)} /></dl>
    <section class="card"><header><h2>Playground</h2><div class="chips" role="group"
      aria-label="Handler">${service.handlers.map((one) =>
      html`<button key=${one.name} class="chip" aria-pressed=${String(one === handler)}
      onClick=${() => setChosen(one.name)}>${one.name}</button>`)}</div></header>
      <div class="pad"><${Playground} key=${handler.name} service=${service} handler=${handler} /></div>
        </section>
  </div>`;
}

const retries = (policy) =>
  `${policy.initial_interval} × ${policy.exponentiation_factor}, at most ${policy.max_interval}, ` +
  `${policy.max_attempts ?? "endless"} attempts, then ${policy.on_max_attempts?.toLowerCase()}`;

/** @param {{service: Api.Service, handler: Api.Handler}} props */
function Playground({ service, handler }) {
  const keyed = service.ty !== "Service";
  const schema = handler.input_json_schema;
  const takes = handler.input_description !== "none";
  const [key, setKey] = useState("");
  const [value, setValue] = useState(() => (takes ? sample(schema) : null));
  const [text, setText] = useState(/** @type {string | null} */ (null));
  const [wrong, setWrong] = useState("");
  const [busy, setBusy] = useState(false);
  const send = async (event) => {
    event.preventDefault();
    let input = value;
    if (text !== null) {
      try {
        input = JSON.parse(text);
      } catch (error) {
        return setWrong(`The input is no JSON: ${error.message}`);
      }
    }
    setWrong("");
    setBusy(true);
    const made = await attempt(() => post("/invocations", { service: service.name, handler: handler.name,
      key: keyed ? key : null, input, has_input: takes }));
    setBusy(false);
    if (made) go(`/invocations/${made.id}`);
  };
  return html`<form class="stack" onSubmit=${send}>
    ${handler.documentation && html`<p class="soft">${handler.documentation}</p>`}
    ${keyed && html`<label class="field">Key<input required value=${key} onInput=${(e) =>
      setKey(e.target.value)} placeholder="which one" /></label>`}
    ${!takes ? html`<p class="soft small">It takes no input.</p>` : text !== null || !schema
      ? html`<label class="field">Input (JSON)<textarea rows="8" spellcheck="false" value=${text ??
        JSON.stringify(value, null, 2)} onInput=${(e) => setText(e.target.value)}></textarea></label>`
      : html`<${Form} schema=${schema} value=${value} onChange=${setValue} label="Input" />`}
    ${wrong && html`<p class="note failed small" role="alert">${wrong}</p>`}
    <div class="row"><button class="primary" disabled=${busy} ...${needs("operator")}>Start</button>
      ${takes && schema && html`<button type="button" class="plain"
        onClick=${() => setText(text === null ? JSON.stringify(value, null, 2) : null)}>${text === null ?
        "as JSON" : "as a form"}</button>`}
      <span class="small soft">${whyNot("operator") || "The run opens as it goes on."}</span></div>
    ${schema && html`<details class="small"><summary>input schema</summary>
      <${Value} value=${schema} label="schema" /></details>`}
    ${handler.output_json_schema && html`<details class="small"><summary>output schema</summary>
      <${Value} value=${handler.output_json_schema} label="schema" /></details>`}
  </form>`;
}
