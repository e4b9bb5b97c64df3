// Theorem 4.2 as a curve over C_P, redrawn whenever the calculator answers.

import { drawPlot, loadPlotly, node, onThemeChange, setAttributes, theme, whenVisible, withOrigin } from './charts.js';
import { growthLayout } from './alignment_charts.js';

const STYLES = { distinct: ['solid', 'distinct targets'], shared: ['dash', 'one shared target'], cyclic: ['dot', 'cyclic targets'] };

export async function mount({ element, props, watch, signal }) {
  const root = element.querySelector('.viewer-root');
  const chart = node('div', { class: 'measure-chart' });
  const draw = async () => {
    const { curves, inputs, quantity } = props.value ?? {};
    if (!curves) {
      root.replaceChildren(node('p', { class: 'loading' }, 'No curve: these numbers do not fit together.'));
      return;
    }
    const Plotly = await loadPlotly();
    if (!chart.isConnected) root.replaceChildren(chart);
    const colours = theme();
    const traces = Object.entries(STYLES).map(([name, [dash, label]]) => ({
      type: 'scatter', mode: 'lines', name: label, x: curves.concepts, y: curves[name],
      line: { dash, width: name === inputs.targets ? 3.5 : 1.8, color: name === inputs.targets ? colours.poisoned : colours.subdued },
      hovertemplate: 'C_P %{x}: +%{y:.5f}<extra>%{fullData.name}</extra>',
    }));
    const settings = growthLayout(colours);
    settings.yaxis.title.text = `gain of ${quantity}`;
    setAttributes(chart, withOrigin({ calculator: inputs }));
    await drawPlot(Plotly, chart, traces, settings, 'theorem-4.2', signal);
  };
  watch('value', draw);
  onThemeChange(draw, signal);
  await whenVisible(root);
  await draw();
}
