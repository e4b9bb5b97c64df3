// 95 % intervals of what a filter's grade gives, as `explorer/defence/grading.py` makes them.

const Z = 1.959963984540054; // the normal distribution's, at 97.5 %

// Wilson's interval of a share, honest at none and at all; null for a share of nothing.
function wilson(count, of) {
  if (!of) return null;
  const [share, square] = [count / of, Z ** 2 / of];
  const centre = (share + square / 2) / (1 + square);
  const reach = (Z * Math.sqrt((share * (1 - share)) / of + square / (4 * of))) / (1 + square);
  return { low: count ? centre - reach : 0, high: count < of ? centre + reach : 1 };
}

// Intervals {low, high} of what `grade` gives of these cells. F1 is 2 J / (1 + J) of a share J: of what is poison or goes,
// what is both.
export function gradeIntervals({ caught, missed, lost, spared }) {
  const [recall, both] = [wilson(caught, caught + missed), wilson(caught, caught + missed + lost)];
  const f1 = both && { low: (2 * both.low) / (1 + both.low), high: (2 * both.high) / (1 + both.high) };
  return { poison_removed: recall, benign_lost: wilson(lost, lost + spared), precision: wilson(caught, caught + lost), recall, f1 };
}
