// Which step of one run is which of the other: the longest common row of kinds and names.

const MOST = 1500;
const name = (step) => `${step.type} ${step.name} ${step.branch} ${step.row.service ?? ""} ${step.row.handler
  ?? ""} ${step.row.key ?? ""}`;

/** Pairs of steps; null where one has no counterpart. */
export function align(left, right) {
  let head = 0;
  while (head < left.length && head < right.length && name(left[head]) === name(right[head])) head++;
  const pairs = left.slice(0, head).map((step, i) => [step, right[i]]);
  const a = left.slice(head), b = right.slice(head);
  if (a.length * b.length > MOST * MOST)
    return [...pairs, ...a.map((step) => [step, null]), ...b.map((step) => [null, step])];
  return [...pairs, ...common(a, b)];
}

function common(a, b) {
  const width = b.length + 1, best = new Uint32Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i--)
    for (let j = b.length - 1; j >= 0; j--)
      best[i * width + j] = name(a[i]) === name(b[j]) ? best[(i + 1) * width + j + 1] + 1 :
        Math.max(best[(i + 1) * width + j], best[i * width + j + 1]);
  const out = [];
  let i = 0, j = 0;
  while (i < a.length && j < b.length) {
    if (name(a[i]) === name(b[j])) out.push([a[i++], b[j++]]);
    else if (best[(i + 1) * width + j] >= best[i * width + j + 1]) out.push([a[i++], null]);
    else out.push([null, b[j++]]);
  }
  while (i < a.length) out.push([a[i++], null]);
  while (j < b.length) out.push([null, b[j++]]);
  return out;
}

/** The same step with the same outcome, whatever it took. */
export function same(left, right) {
  if (!left || !right) return false;
  const said = (step) => step.type === "approval" ?
    JSON.stringify([step.state, step.asked?.question, step.verdict?.edited ? step.verdict.payload : null]) :
    JSON.stringify([step.state, step.failure?.message ?? null, step.type === "llm" ? step.value?.message ??
    step.value : step.value ?? null, step.given ?? null]);
  return said(left) === said(right);
}
