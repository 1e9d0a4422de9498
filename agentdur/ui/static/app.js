// The frame around all pages: navigation, keys, messages.
import { html, render, signal, useEffect } from "./html.js";
import { get, online, poll, signedOut } from "./api.js";
import { me, whoami } from "./me.js";
import { go, href, match, route } from "./router.js";
import { Asking, Toasts } from "./parts/ask.js";
import { RunPage } from "./pages/run.js";
import { ApprovalPage, ApprovalsPage } from "./pages/approvals.js";
import { ComparePage } from "./pages/compare.js";
import { DeploymentPage, DeploymentsPage } from "./pages/deployments.js";
import { LoginPage, Me } from "./pages/login.js";
import { ObjectPage, ObjectsPage } from "./pages/objects.js";
import { OverviewPage } from "./pages/overview.js";
import { SqlPage } from "./pages/sql.js";
import { RunsPage } from "./pages/runs.js";
import { SearchPage } from "./pages/search.js";
import { ServicePage, ServicesPage } from "./pages/services.js";
import { SessionPage } from "./pages/session.js";
import { SessionsPage } from "./pages/sessions.js";

const PAGES = [
  ["/", OverviewPage],
  ["/invocations", RunsPage],
  ["/invocations/:id", RunPage],
  ["/approvals", ApprovalsPage],
  ["/approvals/:id", ApprovalPage],
  ["/sessions", SessionsPage],
  ["/sessions/:agent/:id", SessionPage],
  ["/compare", ComparePage],
  ["/objects", ObjectsPage],
  ["/objects/:service/:key_", ObjectPage],
  ["/search", SearchPage],
  ["/sql", SqlPage],
  ["/services", ServicesPage],
  ["/services/:name", ServicePage],
  ["/deployments", DeploymentsPage],
  ["/deployments/:id", DeploymentPage],
];
const NAV = [
  ["/", "Overview", "M3 12h4l3-8 4 16 3-8h4"],
  ["/invocations", "Invocations", "M4 6h16M4 12h16M4 18h10"],
  ["/search", "Search", "M11 4a7 7 0 1 0 0 14a7 7 0 0 0 0-14zM16.2 16.2L21 21"],
  ["/approvals", "Approvals", "M5 12l5 5L20 7"],
  ["/sessions", "Sessions", "M4 5h16v11H9l-5 4z"],
  ["/objects", "Objects", "M12 3l8 4.5v9L12 21l-8-4.5v-9zM12 12l8-4.5M12 12v9M12 12L4 7.5"],
  ["/services", "Services", "M4 4h7v7H4zM13 4h7v7h-7zM4 13h7v7H4zM13 13h7v7h-7z"],
  ["/deployments", "Deployments", "M12 3l9 5-9 5-9-5zM3 12.5l9 5 9-5M3 17l9 5 9-5"],
  ["/sql", "SQL", "M5 8l4 4-4 4M12 17h7"],
];

const version = signal("");
/** How many approvals wait: told in the navigation wherever one is. */
export const asked = signal(0);

function Frame() {
  const { path } = route.value;
  const known = !!me.value && !signedOut.value;
  useEffect(() => {
    let stop = () => {};
    whoami().catch(() => (stop = poll(2, () => whoami().then(() => stop()))));
    return () => stop();
  }, []);
  useEffect(() => {
    if (!known) return undefined;
    get("/version").then((about) => (version.value = about.version), () => {});
    return poll(5, async () => (asked.value = (await get("/approvals?limit=100")).approvals.length));
  }, [known]);
  useEffect(() => {
    const main = /** @type {HTMLElement} */ (document.querySelector("main"));
    if (!main.contains(document.activeElement)) main.focus({ preventScroll: true });
  }, [path]);
  return html`<div class="frame">
    <header class="side">
      <a class="brand" href=${href("/")}
        aria-label="agentdur: overview"><img src="/ui/icon.svg" alt="" /><span>agentdur</span></a>
      <nav aria-label="Main">${NAV.map(([to, text, icon]) =>
        html`<a key=${to} href=${href(to)} title=${text} aria-current=${here(path, to) ? "page" : null}>
        <svg viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="1.8" stroke-linecap="round"
          stroke-linejoin="round" aria-hidden="true"><path d=${icon} /></svg>
        <span class="label">${text}</span>${to === "/approvals" && asked.value > 0 &&
          html`<span class="count" title="waiting for a decision">${asked.value}${asked.value === 100 ? "+" :
          ""}</span>`}</a>`)}</nav>
      <div class="foot"><${Me} /><div class="about">${version.value &&
        `v${version.value}`}<br /><span title="keys"><kbd>/</kbd> filter · <kbd>g</kbd> go to</span></div>
      </div>
    </header>
    <main tabindex="-1">${signedOut.value ? html`<${LoginPage} />` :
      known && html`<${Page} path=${path} />`}</main>
    ${!online.value && html`<div class="offline" role="status">The server does not answer</div>`}
    <${Asking} /><${Toasts} />
  </div>`;
}

const here = (path, to) => (to === "/" ? path === "/" : path === to || path.startsWith(`${to}/`));

function Page({ path }) {
  for (const [pattern, page] of PAGES) {
    const found = match(pattern, path);
    if (found) return html`<${page} key=${path} ...${found} />`;
  }
  return html`<div class="card empty"><b>There is no such page</b><a href=${href("/")}>To the overview</a>
    </div>`;
}

const GO = { o: "/", i: "/invocations", f: "/search", a: "/approvals", c: "/sessions", b: "/objects",
  s: "/services", d: "/deployments", q: "/sql" };
let pending = 0;

addEventListener("keydown", (event) => {
  const typing = event.target instanceof Element && event.target.closest("input, textarea, select, dialog");
  if (typing || event.metaKey || event.ctrlKey || event.altKey) return;
  if (Date.now() < pending && GO[event.key]) {
    pending = 0;
    go(GO[event.key]);
  } else if (event.key === "g") pending = Date.now() + 1200;
  else if (event.key === "/") {
    event.preventDefault();
    const filter = /** @type {HTMLElement | null} */ (document.querySelector("[data-filter]"));
    if (filter) filter.focus();
    else go("/search");
  } else if (["j", "k", "ArrowDown", "ArrowUp"].includes(event.key))
    step(event, ["j", "ArrowDown"].includes(event.key) ? 1 : -1);
});

/** From row to row; Enter opens one, as it is a button. */
function step(event, by) {
  const rows = /** @type {HTMLElement[]} */ ([...document.querySelectorAll(".step button.code, a.rowlink")]);
  const at = rows.indexOf(/** @type {HTMLElement} */ (document.activeElement));
  if (!rows.length || (event.key.startsWith("Arrow") && at < 0)) return;
  event.preventDefault();
  rows[Math.min(rows.length - 1, Math.max(0, at + by))]?.focus();
}

render(html`<${Frame} />`, document.getElementById("app"));
