// A form made from a JSON schema: objects, lists, choices, numbers, text. The rest is edited as JSON.
import { html, useState } from "../html.js";

const DEEPEST = 6;

/** What a schema means where it only refers. */
export function resolved(schema, root) {
  let found = schema, steps = 0;
  while (found?.$ref && steps++ < 20) {
    found = found.$ref.replace(/^#\//, "").split("/").reduce((at, part) =>
      at?.[part.replaceAll("~1", "/").replaceAll("~0", "~")], root);
  }
  const several = found?.anyOf ?? found?.oneOf;
  if (several?.length === 2 && several.some((one) => one.type === "null"))
    return { ...resolved(several.find((one) => one.type !== "null"), root), optional: true,
    title: found.title };
  if (found?.allOf?.length === 1) return { ...resolved(found.allOf[0], root),
    ...("default" in found ? { default: found.default } : {}) };
  return found ?? {};
}

/** A value to begin with. */
export function sample(schema, root = schema, depth = 0) {
  const s = resolved(schema, root);
  if (s.default !== undefined) return s.default;
  if (s.const !== undefined) return s.const;
  if (s.enum?.length) return s.enum[0];
  if (s.optional || depth > DEEPEST) return null;
  switch (s.type) {
    case "object":
      return Object.fromEntries(Object.entries(s.properties ?? {}).filter(([name, one]) =>
        s.required?.includes(name) || "default" in one).map(([name, one]) =>
        [name, sample(one, root, depth + 1)]));
    case "array": return [];
    case "string": return "";
    case "integer": case "number": return s.minimum ?? 0;
    case "boolean": return false;
    default: return null;
  }
}

export function Form({ schema, root = schema, value, onChange, label, required = true, depth = 0 }) {
  const s = resolved(schema, root);
  const name = s.title && depth === 0 ? s.title : label;
  if (s.enum) return html`<label class="field">${name}<select value=${JSON.stringify(value)}
    onChange=${(e) => onChange(JSON.parse(e.target.value))}>${s.enum.map((one) =>
    html`<option value=${JSON.stringify(one)}>${String(one)}</option>`)}</select></label>`;
  switch (depth > DEEPEST ? "" : s.type) {
    case "object":
      if (!s.properties) break;
      return html`<fieldset><legend>${name}</legend>${s.description &&
        html`<p class="small soft">${s.description}</p>`}
        ${Object.entries(s.properties).map(([key, one]) =>
          html`<${Form} key=${key} schema=${one} root=${root} label=${key}
          required=${!!s.required?.includes(key)} depth=${depth + 1}
          value=${value?.[key]} onChange=${(next) => onChange(without({ ...value, [key]: next }, key))} />`)}
            </fieldset>`;
    case "array":
      return html`<fieldset><legend>${name}</legend>
        ${(Array.isArray(value) ? value : []).map((one, i) =>
        html`<div class="item" key=${i}><div class="grow"><${Form} schema=${s.items
        ?? {}} root=${root} label=${`${i + 1}`} depth=${depth + 1} value=${one} onChange=${(next) =>
        onChange(value.map((old, j) => (j === i ? next : old)))} /></div>
        <button type="button" class="icon" aria-label=${`remove ${i + 1}`} onClick=${() =>
        onChange(value.filter((_, j) => j !== i))}>✕</button></div>`)}
        <p><button type="button" onClick=${() =>
          onChange([...(Array.isArray(value) ? value : []), sample(s.items ?? {}, root)])}>Add</button></p>
          </fieldset>`;
    case "boolean":
      return html`<label class="check"><input type="checkbox" checked=${!!value} onChange=${(e) =>
        onChange(e.target.checked)} /> ${name}</label>`;
    case "integer": case "number":
      return html`<label class="field">${name}${hint(s)}<input type="number" step=${s.type === "integer" ? 1
        : "any"} min=${s.minimum} max=${s.maximum} required=${required && !s.optional} value=${value ??
        ""} onInput=${(e) => onChange(e.target.value === "" ? null : Number(e.target.value))} /></label>`;
    case "string":
      return html`<label class="field">${name}${hint(s)}${long(label, s) ?
        html`<textarea rows="3" value=${value ?? ""} onInput=${(e) => onChange(e.target.value)}></textarea>`
        : html`<input type=${s.format === "date" ? "date" : "text"} value=${value ?? ""}
        onInput=${(e) => onChange(e.target.value === "" && s.optional ? null : e.target.value)} />`}</label>`;
  }
  return html`<${Raw} name=${name} value=${value} onChange=${onChange} />`;
}

const hint = (s) => s.description && html`<span class="small"> ${s.description}</span>`;
const long = (label, s) => /text|body|prompt|message|question|content|input/i.test(`${label} ${s.title ??
  ""}`);

function without(value, key) {
  if (value[key] === undefined) delete value[key];
  return value;
}

function Raw({ name, value, onChange }) {
  const [text, setText] = useState(JSON.stringify(value ?? null, null, 2));
  const [bad, setBad] = useState(false);
  const change = (event) => {
    setText(event.target.value);
    try {
      onChange(JSON.parse(event.target.value));
      setBad(false);
    } catch {
      setBad(true);
    }
  };
  return html`<label class="field">${name} (JSON)${bad && html` <span class="bad">no JSON yet</span>`}
    <textarea rows="3" spellcheck="false" value=${text} onInput=${change}></textarea></label>`;
}
