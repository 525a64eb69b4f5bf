'use strict';
(() => {
  const $ = (id) => document.getElementById(id);
  const SVG = 'http://www.w3.org/2000/svg';
  const UNKNOWN = 255;

  // ---------------------------------------------------------------- tables

  // A button in a column's heading sorts the rows by data-value, or by text in cells without it.
  function sortBy(table, column, direction) {
    const body = table.tBodies[0];
    const value = (row) => {
      const cell = row.cells[column];
      return 'value' in cell.dataset ? Number.parseFloat(cell.dataset.value) : cell.textContent.trim();
    };
    const order = (a, b) => {
      const [x, y] = [value(a), value(b)];
      if (typeof x === 'number' && typeof y === 'number') {
        // Cells without a value come last, in either direction.
        if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
        return direction * (x - y);
      }
      return direction * String(x).localeCompare(String(y), undefined, { numeric: true });
    };
    [...body.rows].sort(order).forEach((row) => body.append(row));
  }

  function makeSortable(table) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = head.querySelector('button');
      if (!button) return;
      button.addEventListener('click', () => {
        const now = head.getAttribute('aria-sort');
        const first = head.classList.contains('number') ? 'descending' : 'ascending';
        const other = first === 'ascending' ? 'descending' : 'ascending';
        const next = now === first ? other : first;
        heads.forEach((each) => each.removeAttribute('aria-sort'));
        head.setAttribute('aria-sort', next);
        sortBy(table, column, next === 'ascending' ? 1 : -1);
      });
    });
  }

  // ---------------------------------------------------------------- arrays

  // Base64 text to bytes (trials, neurons, bins); explorer.py packs them.
  async function unpack(text, bins) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'));
    const out = new Uint8Array(await new Response(stream).arrayBuffer());
    for (let start = 0; start < out.length; start += bins) {
      for (let t = start + 1; t < start + bins; t++) out[t] += out[t - 1];
    }
    return out;
  }

  // ---------------------------------------------------------------- drawing

  function shape(name, attributes, parent, text) {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    parent.append(made);
    return made;
  }

  function roundStep(span, about) {
    const raw = span / about;
    const scale = 10 ** Math.floor(Math.log10(raw));
    return [1, 2, 5, 10].map((m) => m * scale).find((step) => step >= raw * 0.75);
  }

  function colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }

  function rgb(name) {
    const hex = colour(name).replace('#', '');
    return [0, 2, 4].map((at) => Number.parseInt(hex.slice(at, at + 2), 16));
  }

  const format = (value) => {
    const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2;
    return value.toFixed(digits).replace('-', '\u2212');
  };

  function explorer(data, arrays) {
    const T = data.bins;
    const N = data.neurons.length;
    const R = data.trials.length;
    const hz = 1000 / data.bin_ms;
    // The held-out neuron of the highest rate: there is most to see.
    const first = Math.min(data.heldin, N - 1);
    const state = { trial: 0, neuron: first };
    for (let n = first; n < N; n += 1) if (data.means[n] > data.means[state.neuron]) state.neuron = n;
    let order = [];

    const row = (array, trial, neuron) => {
      const start = (trial * N + neuron) * T;
      return array.subarray(start, start + T);
    };
    // Whether a trial has a bin; short trials do not have all.
    const has = (trial, t) => t >= data.spans[trial][0] && t < data.spans[trial][1];
    // NaN in bins that the trial does not have.
    const inHz = (array, trial, neuron) => Array.from(
      row(array, trial, neuron),
      (byte, t) => (has(trial, t) ? (byte / 255) * data.highest[neuron] : Number.NaN),
    );

    // Known counts smoothed by a Gaussian, normalised where bins near it have none.
    function smoothed(counts) {
      const sd = data.smoothing_ms / data.bin_ms;
      const reach = Math.ceil(4 * sd);
      return Array.from({ length: T }, (_, t) => {
        if (counts[t] === UNKNOWN) return Number.NaN;
        let sum = 0;
        let mass = 0;
        for (let u = Math.max(0, t - reach); u <= Math.min(T - 1, t + reach); u++) {
          if (counts[u] === UNKNOWN) continue;
          const weight = Math.exp(-0.5 * ((u - t) / sd) ** 2);
          sum += weight * counts[u];
          mass += weight;
        }
        return mass ? (sum / mass) * hz : Number.NaN;
      });
    }

    function curves() {
      const { trial, neuron } = state;
      const counts = row(arrays.counts, trial, neuron);
      const found = [];
      if ($('show-smooth').checked) found.push(['smooth', smoothed(counts)]);
      if (arrays.truth && $('show-truth').checked) {
        found.push(['truth', inHz(arrays.truth, trial, neuron)]);
      }
      found.push(['main', inHz(arrays.rates, trial, neuron)]);
      return { counts, found };
    }

    function drawRates() {
      const panel = $('rate-panel');
      const width = Math.max(280, panel.clientWidth);
      const height = 280;
      const [left, right, top, bottom] = [56, 12, 42, 36];
      const { counts, found } = curves();
      const highest = Math.max(1, ...found.flatMap(([, y]) => y.filter(Number.isFinite))) * 1.06;
      const end = T * data.bin_ms;
      const across = (ms) => left + (ms / end) * (width - left - right);
      const up = (rate) => height - bottom - (rate / highest) * (height - top - bottom);
      const svg = document.createElementNS(SVG, 'svg');
      svg.setAttribute('viewBox', `0 0 ${width} ${height}`);
      svg.setAttribute('class', 'chart');
      svg.setAttribute('role', 'img');
      svg.setAttribute('aria-labelledby', 'summary');
      if (data.observed < T) {
        const x = across(data.observed * data.bin_ms);
        shape('rect', { class: 'forward', x, y: 0, width: across(end) - x, height: height - bottom }, svg);
        shape('text', { class: 'named', x: x + 5, y: 14 }, svg, 'forward');
      }
      const step = roundStep(highest, 4);
      for (let rate = 0; rate <= highest; rate += step) {
        shape('line', { class: 'grid', x1: left, x2: width - right, y1: up(rate), y2: up(rate) }, svg);
        shape('text', { x: left - 7, y: up(rate) + 4, 'text-anchor': 'end' }, svg, format(rate).replace(/\.0+$/, ''));
      }
      const every = roundStep(end, width < 480 ? 4 : 8);
      for (let ms = 0; ms <= end + 1e-6; ms += every) {
        shape('text', { x: across(ms), y: height - bottom + 17, 'text-anchor': 'middle' }, svg, String(Math.round(ms)));
      }
      shape('text', { x: (left + width - right) / 2, y: height - 3, 'text-anchor': 'middle' }, svg, 'time (ms)');
      shape('text', { x: 12, y: (top + height - bottom) / 2, 'text-anchor': 'middle', transform: `rotate(-90 12 ${(top + height - bottom) / 2})` }, svg, 'rate (spikes/s)');
      for (const [look, y] of found) {
        let pen = 'M';
        let d = '';
        y.forEach((rate, t) => {
          if (!Number.isFinite(rate)) { pen = 'M'; return; }
          d += `${pen}${across((t + 0.5) * data.bin_ms).toFixed(1)} ${up(rate).toFixed(1)}`;
          pen = 'L';
        });
        shape('path', { class: `line ${look}`, d }, svg);
      }
      let d = '';
      counts.forEach((count, t) => {
        if (count === UNKNOWN) return;
        // Several spikes in one bin are drawn at the middles of its equal parts.
        for (let k = 0; k < count; k++) {
          const x = across((t + (k + 0.5) / count) * data.bin_ms).toFixed(1);
          d += `M${x} ${top - 20}V${top - 7}`;
        }
      });
      shape('path', { class: 'ticks', d }, svg);
      panel.replaceChildren(svg);
    }

    // Where the rows of another area begin, with the name of the area above each border.
    function areas() {
      if ($('order').value !== 'area') return [];
      const names = order.map((neuron) => data.areas[neuron]);
      const starts = names.map((_, y) => y).filter((y) => y === 0 || names[y] !== names[y - 1]);
      return starts.map((y, i) => ({ name: names[y], from: y, to: starts[i + 1] ?? N }));
    }

    // One byte per pixel, then enlarged without blurring; marks left and right show the chosen neuron.
    function drawRows(canvas, alphaOf, name) {
      const scale = window.devicePixelRatio || 1;
      const width = canvas.clientWidth;
      const height = Math.max(180, Math.min(460, N * 5));
      canvas.style.height = `${height}px`;
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
      const small = document.createElement('canvas');
      [small.width, small.height] = [T, N];
      const image = small.getContext('2d').createImageData(T, N);
      const [r, g, b] = rgb(name);
      order.forEach((neuron, y) => {
        for (let t = 0; t < T; t++) {
          image.data.set([r, g, b, alphaOf(neuron, t)], 4 * (y * T + t));
        }
      });
      small.getContext('2d').putImageData(image, 0, 0);
      const context = canvas.getContext('2d');
      context.scale(scale, scale);
      context.imageSmoothingEnabled = false;
      context.font = `12px ${getComputedStyle(document.body).fontFamily}`;
      const groups = areas();
      const words = Math.max(0, ...groups.map((area) => context.measureText(area.name).width));
      const right = 8;
      const left = right + (groups.length ? Math.min(words, width / 4) + 6 : 0);
      const across = width - left - right;
      context.drawImage(small, left, 0, across, height);
      const tall = height / N;
      context.fillStyle = colour('--ink');
      const y = order.indexOf(state.neuron) * tall;
      context.fillRect(left - right, y, right - 2, Math.max(2, tall));
      context.fillRect(width - right + 2, y, right - 2, Math.max(2, tall));
      context.fillStyle = colour('--muted');
      context.textBaseline = 'middle';
      for (const area of groups) {
        if (area.from > 0) context.fillRect(0, area.from * tall - 0.5, width, 1);
        const middle = ((area.from + area.to) / 2) * tall;
        if ((area.to - area.from) * tall >= 10) context.fillText(area.name, 0, middle, width / 4);
      }
      if ($('order').value === 'index' && data.heldin < N) {
        context.fillRect(left, data.heldin * tall - 0.5, across, 1);
      }
      if (data.observed < T) {
        const x = left + (data.observed / T) * across;
        for (let at = 0; at < height; at += 6) context.fillRect(x, at, 1, 3);
      }
    }

    function drawAll() {
      const { trial } = state;
      const counts = (neuron) => row(arrays.counts, trial, neuron);
      const rates = (neuron) => row(arrays.rates, trial, neuron);
      let at = -1;
      let held = null;
      const cached = (source) => (neuron, t) => {
        if (neuron !== at) [at, held] = [neuron, source(neuron)];
        return held[t];
      };
      const count = cached(counts);
      drawRows($('raster'), (n, t) => {
        const c = count(n, t);
        if (!has(trial, t)) return 0;
        return c === UNKNOWN ? 28 : c === 0 ? 0 : Math.min(255, 95 + 65 * c);
      }, '--ink');
      at = -1;
      const rate = cached(rates);
      drawRows($('heat'), (n, t) => (has(trial, t) ? rate(n, t) : 0), '--accent');
      drawRates();
      describe();
    }

    const trialName = (i) => data.trials[i];
    const neuronName = (n) => data.neurons[n];

    function describe() {
      const { trial, neuron } = state;
      const { counts } = curves();
      const known = Array.from(counts).filter((count) => count !== UNKNOWN);
      const spikes = known.reduce((sum, count) => sum + count, 0);
      const inTrial = (y) => y.filter(Number.isFinite);
      const mean = (y) => inTrial(y).reduce((sum, rate) => sum + rate, 0) / inTrial(y).length;
      const inferred = inHz(arrays.rates, trial, neuron);
      const peak = inferred.indexOf(Math.max(...inTrial(inferred)));
      const many = `${spikes} spike${spikes === 1 ? '' : 's'}`;
      const length = `${Math.round(known.length * data.bin_ms)} ms`;
      const sentences = [
        `${trialName(trial)}; ${neuronName(neuron)}: ${known.length ? `${many} in ${length}` : 'spikes not known'}.`,
        `Inferred rate: mean ${format(mean(inferred))}, highest ${format(inferred[peak])} spikes/s at ${Math.round((peak + 0.5) * data.bin_ms)} ms.`,
      ];
      if (arrays.truth) {
        const truth = inHz(arrays.truth, trial, neuron);
        const highest = Math.max(...inTrial(truth));
        sentences.push(`True rate: mean ${format(mean(truth))}, highest ${format(highest)} spikes/s.`);
      }
      const text = sentences.join(' ');
      $('summary').textContent = text[0].toUpperCase() + text.slice(1);
      $('raster').setAttribute('aria-label', `Spikes of all ${N} neurons in ${trialName(trial)}, a row a neuron`);
      $('heat').setAttribute('aria-label', `Inferred rates of all ${N} neurons in ${trialName(trial)}, a row a neuron`);
    }

    function sort() {
      const by = $('order').value;
      order = [...Array(N).keys()];
      if (by === 'area') {
        const names = [...new Set(data.areas)].sort();
        order.sort((a, b) => names.indexOf(data.areas[a]) - names.indexOf(data.areas[b]));
      }
      if (by === 'rate') order.sort((a, b) => data.means[b] - data.means[a]);
      if (by === 'peak') order.sort((a, b) => data.peaks[a] - data.peaks[b]);
    }

    function choose(name, index, count) {
      state[name] = (index + count) % count;
      $(name).value = String(state[name]);
      drawAll();
    }

    for (const [name, count, label] of [['trial', R, trialName], ['neuron', N, neuronName]]) {
      const select = $(name);
      for (let i = 0; i < count; i++) {
        const option = document.createElement('option');
        [option.value, option.textContent] = [String(i), label(i)];
        select.append(option);
      }
      select.value = String(state[name]);
      select.addEventListener('change', () => choose(name, Number(select.value), count));
      $(`${name}-before`).addEventListener('click', () => choose(name, state[name] - 1, count));
      $(`${name}-after`).addEventListener('click', () => choose(name, state[name] + 1, count));
    }
    for (const id of ['raster', 'heat']) {
      $(id).addEventListener('click', (event) => {
        const box = event.currentTarget.getBoundingClientRect();
        const y = Math.floor(((event.clientY - box.top) / box.height) * N);
        choose('neuron', order[Math.max(0, Math.min(N - 1, y))], N);
      });
    }
    $('order').addEventListener('change', () => {
      sort();
      drawAll();
    });
    for (const id of ['show-truth', 'show-smooth']) {
      if (!$(id)) continue;
      const toggled = () => {
        $(`key-${id}`).hidden = !$(id).checked;
        drawRates();
      };
      $(id).addEventListener('change', toggled);
      $(`key-${id}`).hidden = !$(id).checked;
    }
    $('explorer').hidden = false;
    $('no-explorer').hidden = true;
    sort();
    drawAll();
    let width = 0;
    new ResizeObserver(() => {
      if ($('rate-panel').clientWidth !== width) {
        width = $('rate-panel').clientWidth;
        drawAll();
      }
    }).observe($('rate-panel'));
    window.matchMedia('(prefers-color-scheme: dark)').addEventListener('change', drawAll);
  }

  // ---------------------------------------------------------------- the page

  document.querySelectorAll('table.sortable').forEach(makeSortable);
  // On paper, everything is unfolded.
  let opened = [];
  window.addEventListener('beforeprint', () => {
    opened = [...document.querySelectorAll('details:not([open])')];
    opened.forEach((each) => { each.open = true; });
  });
  window.addEventListener('afterprint', () => opened.forEach((each) => { each.open = false; }));

  const source = $('explorer-data');
  if (source && 'DecompressionStream' in window) {
    const data = JSON.parse(source.textContent);
    const names = Object.keys(data.arrays);
    Promise.all(names.map((name) => unpack(data.arrays[name], data.bins))).then((unpacked) => {
      explorer(data, Object.fromEntries(names.map((name, i) => [name, unpacked[i]])));
      document.documentElement.dataset.ready = 'yes';
    });
  } else {
    document.documentElement.dataset.ready = 'yes';
  }
})();
