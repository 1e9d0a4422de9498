// Dialogs and short messages.
import { html, signal, useEffect, useRef, useState } from "../html.js";

const toasts = signal(/** @type {{id: number, text: string, bad: boolean}[]} */ ([]));
let last = 0;

/** Say something for a moment. */
export function say(text, bad = false) {
  const id = ++last;
  toasts.value = [...toasts.value, { id, text, bad }];
  setTimeout(() => (toasts.value = toasts.value.filter((one) => one.id !== id)), bad ? 9000 : 4000);
}

/** Do it, and say how it went. @returns {Promise<any>} what it answered, undefined when it failed */
export async function attempt(work, done = "") {
  try {
    const answer = await work();
    if (done) say(done);
    return answer ?? true;
  } catch (error) {
    say(error.message, true);
    return undefined;
  }
}

export const Toasts = () => html`<div class="toasts" aria-live="polite">
  ${toasts.value.map((one) => html`<div key=${one.id} class="toast ${one.bad ? "bad" : ""}">${one.text}
    </div>`)}
</div>`;

/**
 * @typedef {{title: string, text?: any, body?: any, fields?: any[], action: string, danger?: boolean}} Asked
 */
const open = signal(/** @type {(Asked & { resolve: (said: any) => void }) | null} */ (null));

/**
 * Ask with a dialog.
 * @param {Asked} what
 * @returns {Promise<Record<string, any> | null>} the fields' values; null when it was dismissed
 */
export const ask = (what) => new Promise((resolve) => (open.value = { ...what, resolve }));

export function Asking() {
  const what = open.value;
  const ref = useRef(null);
  useEffect(() => {
    if (what && ref.current && !ref.current.open) ref.current.showModal();
  }, [what]);
  return what && html`<${Box} key=${what.title} what=${what} frame=${ref} />`;
}

function Box({ what, frame }) {
  const [values, setValues] = useState(Object.fromEntries((what.fields ?? []).map((f) =>
    [f.name, f.value ?? ""])));
  const [wrong, setWrong] = useState("");
  const end = (answer) => {
    open.value = null;
    what.resolve(answer);
  };
  const submit = (event) => {
    event.preventDefault();
    const answer = {};
    for (const field of what.fields ?? []) {
      answer[field.name] = values[field.name];
      if (field.json) {
        try {
          answer[field.name] = JSON.parse(values[field.name]);
        } catch (error) {
          return setWrong(`${field.label}: ${error.message}`);
        }
      }
    }
    end(answer);
  };
  const set = (name) => (event) => setValues({ ...values, [name]: event.target.value });
  return html`<dialog ref=${frame} aria-labelledby="ask-title"
    onClose=${() => open.value === what && end(null)}>
    <form onSubmit=${submit}>
      <h2 id="ask-title">${what.title}</h2>
      ${what.text && html`<p class="soft">${what.text}</p>`}
      ${what.body}
      ${(what.fields ?? []).map((f) => html`<label class="field" key=${f.name}>${f.label}
        ${f.options
          ? html`<select value=${values[f.name]}
            onChange=${set(f.name)}>${f.options.map(([v, t]) => html`<option value=${v}>${t}</option>`)}
            </select>`
          : f.rows
            ? html`<textarea rows=${f.rows} value=${values[f.name]} onInput=${set(f.name)}
              spellcheck="false"></textarea>`
            : html`<input type=${f.type ?? "text"} value=${values[f.name]} onInput=${set(f.name)} />`}
      </label>`)}
      ${wrong && html`<p class="note failed small" role="alert">${wrong}</p>`}
      <div class="actions">
        <button type="button" onClick=${() => end(null)}>Cancel</button>
        <button class=${what.danger ? "danger" :
          "primary"} autofocus=${!(what.fields ?? []).length}>${what.action}</button>
      </div>
    </form>
  </dialog>`;
}
