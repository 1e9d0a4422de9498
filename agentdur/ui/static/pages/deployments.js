// Where handlers run: this process and registered endpoints, and which version of each service is there.
import { html, useEffect, useState } from "../html.js";
import { get, poll, seg } from "../api.js";
import { href } from "../router.js";
import { ago, ms, plural, stamp } from "../format.js";
import { Fact } from "../parts/llm.js";

const SECONDS = 5;
const speaks = (one) => (one.min_protocol_version === one.max_protocol_version ?
  `V${one.min_protocol_version}` : `V${one.min_protocol_version} to V${one.max_protocol_version}`);
/** This process is listed beside the endpoints, and its services name no deployment. */
const here = (one) => one.protocol_type === "BidiStream" && !/^https?:/.test(one.uri ?? "http:");
const serves = (one, service, current) => {
  const newest = current.get(service.name);
  return !!newest && newest.revision === service.revision &&
    (newest.deployment_id ? newest.deployment_id === one.id : here(one));
};

/** Ask now and again. @returns {[any, string]} what came, and what went wrong */
function useAsked(ask, key) {
  const [found, setFound] = useState(null), [failed, setFailed] = useState("");
  useEffect(() => poll(SECONDS, async () => {
    try {
      setFound(await ask());
      setFailed("");
    } catch (error) {
      setFailed(error.message);
    }
  }), [key]);
  return [found, failed];
}

export function DeploymentsPage() {
  useEffect(() => void (document.title = "Deployments · agentdur"), []);
  const [found, failed] = useAsked(async () => {
    const [all, services] = await Promise.all([get("/deployments"), get("/services")]);
    return { all: all.deployments, current: new Map(services.services.map((one) => [one.name, one])) };
  }, "");
  const sorted = (found?.all ?? []).toSorted((a, b) => ms(b.created_at) - ms(a.created_at));
  return html`<div class="stack">
    <div class="head"><h1>Deployments</h1></div>
    ${failed && html`<p class="note failed" role="alert">${failed}</p>`}
    ${!found && !failed && html`<p class="soft">…</p>`}
    ${found && html`<p class="soft">New invocations go to the newest version of a service; those that have
      begun stay where they are.</p>`}
    ${sorted.map((one) => html`<article class="card pad stack tight" key=${one.id}>
      <div class="row"><h2><a class="rowlink" href=${href(`/deployments/${seg(one.id)}`)}>${here(one) ?
        "This process" : one.uri ?? one.arn}</a></h2>${!one.services.some((service) =>
        serves(one, service, found.current)) && html`<span class="tag">no new invocations</span>`}</div>
      <${About} one=${one} />
      <${Versions} one=${one} current=${found.current} /></article>`)}
  </div>`;
}

const About = ({ one }) => html`<dl class="facts">
  <${Fact} name="Id" value=${html`<code>${one.id}</code>`} />
  <${Fact} name="Since" value=${html`<span title=${stamp(ms(one.created_at))}>${ago(ms(one.created_at))}
    </span>`} />
  <${Fact} name="Protocol" value=${here(one) ? speaks(one) :
    `${speaks(one)}, ${one.protocol_type ?? "Lambda"}`} />
  <${Fact} name="HTTP" value=${here(one) ? null : one.http_version} />
  <${Fact} name="SDK" value=${one.sdk_version} /></dl>`;

const Versions = ({ one, current }) => html`<ul class="plainlist">${one.services.map((service) =>
  html`<li key=${service.name}><a class="mono" href=${href(`/services/${seg(service.name)}`)}>
    ${service.name}</a> <span class="soft small">revision ${service.revision}${serves(one, service, current) ?
    "" : current.has(service.name) ? `, replaced by ${current.get(service.name).revision}` :
    ", no longer served"}</span></li>`)}${!one.services.length && html`<li class="soft">no services</li>`}
  </ul>`;

export function DeploymentPage({ id }) {
  useEffect(() => void (document.title = `${id} · agentdur`), [id]);
  const [one, failed] = useAsked(() => get(`/deployments/${seg(id)}`), id);
  if (!one) return failed ? html`<div class="card empty"><b>No such deployment</b>${failed}</div>` :
    html`<p class="soft">…</p>`;
  return html`<div class="stack">
    <div class="head"><div class="grow"><p class="small soft crumbs">
      <a href=${href("/deployments")}>deployments</a></p>
      <h1>${here(one) ? "This process" : one.uri ?? one.arn}</h1></div></div>
    <${About} one=${one} />
    ${[["Headers sent along", one.additional_headers], ["Metadata", one.metadata]].map(([title, pairs]) =>
      pairs && html`<dl class="facts" key=${title}><${Fact} name=${title}
        value=${Object.entries(pairs).map(([name, value]) => `${name}: ${value}`).join(", ")} /></dl>`)}
    <div class="tiles">${one.services.map((service) => html`<section class="card" key=${service.name}>
      <header><h2><a href=${href(`/services/${seg(service.name)}`)}>${service.name}</a></h2>
        <span class="grow"></span><span class="tag">revision ${service.revision}</span></header>
      <div class="pad stack tight"><p class="small soft">${service.ty}, ${plural(service.handlers.length,
        "handler")}</p>
      <ul class="plainlist">${service.handlers.map((handler) => html`<li key=${handler.name}>
        <code>${handler.name}</code> <span class="soft small">${handler.ty}${handler.public === false ?
        " private" : ""}</span></li>`)}</ul></div></section>`)}</div>
  </div>`;
}
