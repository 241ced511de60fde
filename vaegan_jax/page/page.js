'use strict';
(() => {
  const data = JSON.parse(document.getElementById('data').textContent);
  const SVG = 'http://www.w3.org/2000/svg';
  const LEFT = 44, RIGHT = 6, TOP = 6, BOTTOM = 18;
  const COLOURS = ['#3b82f6', '#f59e0b', '#10b981', '#ef4444', '#8b5cf6', '#06b6d4', '#ec4899', '#84cc16'];
  const colour = (i) => COLOURS[i] || `hsl(${(i * 137.5) % 360} 65% 55%)`;
  const short = (v) => (v === 0 ? '0' : Math.abs(v) >= 1e5 || Math.abs(v) < 1e-3 ? v.toExponential(1).replace('+', '') : String(+v.toPrecision(3)));
  const exact = (v) => (v === false ? 'not finite' : v === null ? 'none' : String(+v.toPrecision(4)));  // as in curves.py
  const make = (name, parent, text) => {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    parent.append(made);
    return made;
  };
  const draw = (name, parent, attributes) => {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    parent.append(made);
    return made;
  };

  // --- Pictures: a slider over all steps; each run shows its newest picture up to that step.
  for (const box of document.querySelectorAll('.pictures')) {
    const shown = data.pictures[box.dataset.kind];
    const steps = [...new Set(shown.flatMap((own) => own.shots.map((shot) => shot[0])))].sort((a, b) => a - b);
    const slide = make('div', box);
    slide.className = 'slide';
    const input = make('input', slide), output = make('output', slide);
    Object.assign(input, { type: 'range', min: 0, max: steps.length - 1, value: steps.length - 1 });
    input.setAttribute('aria-label', 'step');
    if (steps.length < 2) slide.style.display = 'none';
    const shots = make('div', box);
    shots.className = 'shots';
    const figures = shown.map((own) => {
      const figure = make('figure', shots), image = make('img', figure), caption = make('figcaption', figure);
      return { own, image, caption };
    });
    const show = () => {
      const step = steps[input.value];
      output.textContent = step < 0 ? '' : `step ${step}`;
      for (const { own, image, caption } of figures) {
        const shot = own.shots.filter((s) => s[0] <= step).pop() || own.shots[0];
        image.src = shot[1];
        image.alt = `${box.dataset.kind} of ${data.names[own.run]}`;
        const parts = [figures.length > 1 ? data.names[own.run] : '', shot[0] < 0 ? '' : `step ${shot[0]}`];
        caption.textContent = parts.filter(Boolean).join(', ');
      }
    };
    input.addEventListener('input', show);
    show();
  }

  // --- Curves. All charts share the range of steps and the cursor.
  const last = Math.max(1, ...data.runs.flatMap((run) => run.steps.slice(-1)));
  let range = [0, last];
  const charts = [], hidden = new Set();
  const scale = document.getElementById('scale'), whole = document.getElementById('whole');

  const nearest = (steps, step) => {
    let low = 0, high = steps.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (steps[middle] < step) low = middle; else high = middle;
    }
    return step - steps[low] < steps[high] - step ? low : high;
  };
  const ticks = (low, high, count) => {
    const rough = (high - low) / count || 1, power = 10 ** Math.floor(Math.log10(rough));
    const unit = [1, 2, 5, 10].find((k) => k * power >= rough) * power, found = [];
    for (let v = Math.ceil(low / unit) * unit; v <= high + unit * 1e-6; v += unit) found.push(Math.abs(v) < unit * 1e-6 ? 0 : v);
    return found;
  };

  class Chart {
    constructor(parent, term, note) {
      this.term = term;
      const box = make('div', parent);
      box.className = 'chart';
      const head = make('header', box);
      make('b', head, term);
      this.value = make('span', head);
      this.value.className = 'value';
      make('small', box, note);
      this.svg = draw('svg', box, { role: 'img', 'aria-label': `curve of ${term}` });
      this.svg.addEventListener('pointermove', (e) => { this.from === undefined ? point(this.step(e)) : this.brush(e); });
      this.svg.addEventListener('pointerleave', () => { if (this.from === undefined) point(null); });
      this.svg.addEventListener('pointerdown', (e) => { this.from = e.offsetX; this.svg.setPointerCapture(e.pointerId); point(this.step(e)); });
      this.svg.addEventListener('pointerup', (e) => this.release(e));
      this.svg.addEventListener('pointercancel', () => { this.from = undefined; this.paint(); });
      this.svg.addEventListener('dblclick', () => zoom([0, last]));
      charts.push(this);
    }
    step(e) { return range[0] + ((e.offsetX - LEFT) / (this.width - LEFT - RIGHT)) * (range[1] - range[0]); }
    x(step) { return LEFT + ((step - range[0]) / (range[1] - range[0])) * (this.width - LEFT - RIGHT); }
    brush(e) {
      const [a, b] = [this.from, e.offsetX].sort((p, q) => p - q);
      this.band = this.band || draw('rect', this.svg, { class: 'brush', y: TOP, height: this.height - TOP - BOTTOM });
      this.band.setAttribute('x', a);
      this.band.setAttribute('width', b - a);
    }
    release(e) {
      const from = this.from;
      this.from = undefined;
      if (from !== undefined && Math.abs(e.offsetX - from) > 8) {
        const pair = [this.step({ offsetX: from }), this.step(e)].sort((a, b) => a - b);
        zoom([Math.max(0, pair[0]), Math.min(last, pair[1])]);
      } else {
        this.paint();
        point(this.step(e));
      }
    }
    visible() {  // [[run, [[step, value]...]]...] of the range, with one point beyond each end
      return data.runs.flatMap((run, i) => {
        if (hidden.has(i) || !run.terms[this.term]) return [];
        const inside = run.steps.map((step, k) => [step, run.terms[this.term][k], k]);
        const first = inside.findIndex((p) => p[0] >= range[0]);
        let end = inside.findIndex((p) => p[0] > range[1]);
        if (first < 0) return [];
        if (end < 0) end = inside.length - 1;
        return [[i, inside.slice(Math.max(0, first - 1), end + 1)]];
      });
    }
    paint() {
      this.width = this.svg.clientWidth || 290;
      this.height = this.svg.clientHeight || 150;
      this.svg.setAttribute('viewBox', `0 0 ${this.width} ${this.height}`);
      this.svg.replaceChildren();
      this.band = undefined;
      const own = this.visible();
      const values = own.flatMap(([, points]) => points.map((p) => p[1])).filter(Number.isFinite);
      let low = Math.min(...values), high = Math.max(...values);
      if (!values.length) [low, high] = [0, 1];
      const log = low > 0 && (scale.value === 'logarithmic' || (scale.value === 'automatic' && high / low > 100));
      if (low === high) [low, high] = log ? [low / 2, high * 2] : [low - (Math.abs(low) || 1) / 2, high + (Math.abs(high) || 1) / 2];
      const f = log ? Math.log10 : (v) => v, [bottom, top] = [f(low), f(high)];
      const y = (v) => this.height - BOTTOM - ((f(v) - bottom) / (top - bottom)) * (this.height - TOP - BOTTOM);
      let marks = ticks(bottom, top, 4);
      if (log) marks = (marks.filter(Number.isInteger).length > 1 ? marks.filter(Number.isInteger) : marks).map((v) => 10 ** v);
      for (const v of marks) {
        draw('line', this.svg, { class: 'plain', x1: LEFT, x2: this.width - RIGHT, y1: y(v), y2: y(v) });
        draw('text', this.svg, { x: LEFT - 4, y: y(v) + 3, 'text-anchor': 'end' }).textContent = short(v);
      }
      for (const v of ticks(range[0], range[1], this.width > 220 ? 4 : 2)) {
        draw('text', this.svg, { x: this.x(v), y: this.height - 4, 'text-anchor': v > range[1] * 0.95 ? 'end' : 'middle' }).textContent = Math.round(v * 100) / 100;
      }
      data.runs.forEach((run, i) => {
        if (hidden.has(i)) return;
        for (const event of run.events.filter((e) => e.step >= range[0] && e.step <= range[1])) {
          const line = draw('line', this.svg, { class: 'event', x1: this.x(event.step), x2: this.x(event.step), y1: TOP, y2: this.height - BOTTOM });
          draw('title', line, {}).textContent = `step ${event.step}: ${event.text}`;
        }
      });
      const clip = `clip-${charts.indexOf(this)}`;
      draw('rect', draw('clipPath', this.svg, { id: clip }), { x: LEFT, y: 0, width: this.width - LEFT - RIGHT, height: this.height });
      const inside = draw('g', this.svg, { 'clip-path': `url(#${clip})` });
      for (const [i, points] of own) {
        let path = '', pen = 'M';
        for (const [step, v] of points) {
          if (v === null) { pen = 'M'; continue; }
          if (v === false) { pen = 'M'; draw('line', inside, { class: 'broken', x1: this.x(step), x2: this.x(step), y1: this.height - BOTTOM - 6, y2: this.height - BOTTOM }); continue; }
          path += `${pen}${this.x(step).toFixed(1)} ${y(v).toFixed(1)}`;
          pen = 'L';
        }
        draw('path', inside, { d: path, stroke: colour(i) });
      }
      this.line = draw('line', this.svg, { class: 'cursor', y1: TOP, y2: this.height - BOTTOM, visibility: 'hidden' });
      this.point(null);
    }
    point(step) {
      const at = step === null ? Infinity : Math.max(range[0], Math.min(range[1], step));
      const told = [];
      let where = null;
      data.runs.forEach((run, i) => {
        const own = run.terms[this.term];
        if (hidden.has(i) || !own || !run.steps.length) return;
        const k = at === Infinity ? run.steps.length - 1 : nearest(run.steps, at);
        where = where === null ? run.steps[k] : where;
        told.push(own[k]);
      });
      const finite = told.filter(Number.isFinite);
      const words = told.length < 3 ? told.map(exact).join(' / ') : finite.length ? `${exact(Math.min(...finite))} to ${exact(Math.max(...finite))}` : '';
      this.value.textContent = (step === null || where === null ? '' : `${where}: `) + words;
      this.line.setAttribute('visibility', step === null || where === null ? 'hidden' : 'visible');
      if (step !== null && where !== null) for (const key of ['x1', 'x2']) this.line.setAttribute(key, this.x(where));
    }
  }
  const point = (step) => charts.forEach((chart) => chart.point(step));
  const paint = () => charts.forEach((chart) => chart.paint());
  const zoom = (to) => {
    if (to[1] - to[0] < 1) return;
    range = to;
    whole.disabled = range[0] === 0 && range[1] === last;
    paint();
  };

  for (const group of data.groups) {
    const parent = document.getElementById('curves');
    make('h3', parent, group.title);
    const grid = make('div', parent);
    grid.className = 'charts';
    for (const [term, note] of group.terms) new Chart(grid, term, note);
  }
  for (const key of document.querySelectorAll('.key')) key.style.background = colour(+key.dataset.run);
  if (data.runs.length > 1) {
    data.names.forEach((name, i) => {
      const label = make('label', document.getElementById('legend'));
      const box = make('input', label);
      Object.assign(box, { type: 'checkbox', checked: true });
      const key = make('i', label);
      key.className = 'key';
      key.style.background = colour(i);
      label.append(name);
      box.addEventListener('change', () => { box.checked ? hidden.delete(i) : hidden.add(i); paint(); });
    });
  }
  scale.addEventListener('change', paint);
  whole.addEventListener('click', () => zoom([0, last]));
  let width = 0;
  new ResizeObserver(() => {
    if (document.body.clientWidth === width) return;
    width = document.body.clientWidth;
    paint();
  }).observe(document.body);
})();
