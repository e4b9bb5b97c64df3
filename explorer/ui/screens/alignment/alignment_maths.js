// AD at any alpha from its parts: exact, because AD is linear in alpha and its variance is quadratic.

const Z95 = 1.959963984540054;

// {value, error, low, high} of feature AD, structure AD and AD of one set; bounds are null without an error.
export function parts(set, alpha) {
  const { feature_ad: feature, structure_ad: structure, n } = set.alignment_difficulty;
  const moments = set.moments;
  const error = (variance) => (moments ? Math.sqrt(Math.max(variance(moments), 0) / n) : null);
  const beta = 1 - alpha;
  return {
    feature: interval(feature, error((m) => m.feature_variance)),
    // A pair stands in two places of every structure disparity it is part of, hence the factor 2.
    structure: interval(structure, error((m) => 4 * m.structure_variance)),
    ad: interval(alpha * feature + beta * structure, error((m) => alpha ** 2 * m.feature_variance
      + 4 * beta ** 2 * m.structure_variance + 4 * alpha * beta * m.covariance)),
  };
}

function interval(value, error) {
  if (error === null) return { value, error, low: null, high: null };
  return { value, error, low: value - Z95 * error, high: value + Z95 * error };
}

// Distribution of a score; that of AD(x,y) is stored at every stop of alpha.
export function distribution(set, score, alpha) {
  const stored = set.distributions[score];
  if (score !== 'sample_ad') return stored;
  const stop = set.alpha_stops.indexOf(alpha);
  if (stop < 0) throw new Error(`alpha ${alpha} is no stop: expected one of ${set.alpha_stops.join(', ')}`);
  return stored[stop];
}

// Pearson's r; null for fewer than three points or where one of the two does not vary.
export function correlation(x, y) {
  const centred = (values) => values.map((value) => value - values.reduce((total, other) => total + other, 0) / values.length);
  const dot = (first, second) => first.reduce((total, value, at) => total + value * second[at], 0);
  const [dx, dy] = [centred(x), centred(y)];
  const varied = Math.sqrt(dot(dx, dx) * dot(dy, dy));
  return x.length < 3 || varied === 0 ? null : dot(dx, dy) / varied;
}

// R^2 of AD on the share of poisoned pairs, a straight line over the sets; null as a correlation is.
export function shareFit(sets, alpha) {
  const r = correlation(sets.map((set) => set.poisoned_pairs / set.pairs), sets.map((set) => parts(set, alpha).ad.value));
  return r === null ? null : r ** 2;
}
