// A product's last hour in a table's cell: a bar for every five minutes, as high as the share of negatives.

import { svg } from "./dom.js";
import { roundPercent } from "./numbers.js";
import { t } from "./texts.js";

const BARS = 12;
const STEP = 7;
const HEIGHT = 22;
/** The share that fills the height: one scale for all products, on which the usual tenth can be seen. */
const FULL = 0.6;

/** @param points of a series, oldest first. */
export function sparkline(points) {
  const size = Math.max(1, Math.ceil(points.length / BARS));
  const groups = [];
  for (let end = points.length; end > 0; end -= size) groups.unshift(points.slice(Math.max(0, end - size), end));
  const shares = groups.map((group) => {
    const [negative, all] = group.reduce(([bad, sum], each) => [bad + each.negative, sum + each.negative + each.neutral + each.positive], [0, 0]);
    return all ? negative / all : null;
  });
  const known = shares.filter((each) => each !== null);
  const text = known.length ? t("leaders.spark_says", { first: roundPercent(known[0]), last: roundPercent(known[known.length - 1]), high: roundPercent(Math.max(...known)) }) : t("chart.empty");
  return svg("svg", { class: "spark", viewBox: `0 0 ${BARS * STEP} ${HEIGHT}`, role: "img", "aria-label": text },
    svg("line", { x1: 0, x2: BARS * STEP, y1: HEIGHT - 0.5, y2: HEIGHT - 0.5, class: "spark-base" }),
    shares.map((share, place) => {
      if (share === null) return null;
      const height = Math.max(1, Math.min(1, share / FULL) * (HEIGHT - 1));
      return svg("rect", { x: (BARS - shares.length + place) * STEP + 1, y: HEIGHT - height, width: STEP - 2, height, class: "spark-bar", opacity: 0.45 + 0.55 * Math.min(1, share / 0.5) });
    }));
}
