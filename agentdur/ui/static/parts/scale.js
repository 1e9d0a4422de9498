// The time axis: from milliseconds to a share of the width, and where its ticks are.
import { span } from "../format.js";

const GAP_SHARE = 0.3;
const LITTLE_MS = 20, LONG_MS = 8000;

/**
 * A scale from `begin` to `end`. With `fold`, a long stretch of time in which nothing happens gets a fixed
 * small share of the width.
 * @param {number[]} points times at which something happened, in order
 */
export function scaleOf(begin, end, points, fold) {
  const total = Math.max(1, end - begin);
  const stretches = fold ? folded(begin, end, points) : [{ from: begin, to: end, width: 1, gap: false }];
  let at = 0;
  for (const one of stretches) {
    one.start = at;
    at += one.width;
  }
  const x = (time) => {
    if (time <= begin) return 0;
    if (time >= end) return 1;
    let low = 0, high = stretches.length - 1;
    while (low < high) {
      const mid = (low + high) >> 1;
      if (time > stretches[mid].to) low = mid + 1;
      else high = mid;
    }
    const one = stretches[low];
    return one.start + (one.width * (time - one.from)) / Math.max(1, one.to - one.from);
  };
  return { begin, end, total, x, ticks: ticks(stretches, begin), gaps: stretches.filter((one) => one.gap),
    folds: stretches.length > 1 };
}

function folded(begin, end, points) {
  const marks = [begin, ...points.filter((p) => p > begin && p < end), end];
  const total = end - begin;
  const gaps = [];
  for (let i = 1; i < marks.length; i++) {
    const long = marks[i] - marks[i - 1];
    if (long > total * GAP_SHARE && long > LONG_MS) gaps.push([marks[i - 1], marks[i]]);
  }
  const hidden = gaps.reduce((sum, [a, b]) => sum + b - a, 0);
  if (!gaps.length) return [{ from: begin, to: end, width: 1, gap: false }];
  const rest = total - hidden;
  if (rest < LITTLE_MS) return [{ from: begin, to: end, width: 1, gap: false }];
  const share = Math.min(0.22, 0.6 / gaps.length), room = 1 - share * gaps.length;
  const out = [];
  let at = begin;
  for (const [a, b] of gaps) {
    if (a > at) out.push({ from: at, to: a, width: (room * (a - at)) / rest, gap: false });
    out.push({ from: a, to: b, width: share, gap: true });
    at = b;
  }
  if (end > at) out.push({ from: at, to: end, width: (room * (end - at)) / rest, gap: false });
  const sum = out.reduce((all, one) => all + one.width, 0);
  for (const one of out) one.width /= sum;
  return out;
}

const STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 15e3, 3e4, 6e4, 12e4, 3e5, 6e5, 18e5,
  36e5, 72e5, 216e5, 864e5, 1728e5, 6048e5];

function ticks(stretches, begin) {
  const out = [];
  for (const one of stretches) {
    if (one.gap || one.width < 0.1) continue;
    const long = one.to - one.from, want = Math.max(1, Math.round(one.width * 6));
    const step = STEPS.find((s) => long / s <= want) ?? long;
    const first = Math.ceil((one.from - begin) / step) * step;
    for (let t = first; t <= one.to - begin; t += step) {
      const at = one.start + (one.width * (t - (one.from - begin))) / Math.max(1, long);
      if (at < 0.95) out.push({ at, text: t === 0 ? "0" : `+${span(t)}` });
    }
  }
  return out;
}
