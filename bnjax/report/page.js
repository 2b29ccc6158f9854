/* Tables that sort and filter, and the curves of a trial on demand.
   Whatever a config or a record says is only ever written as text. */
'use strict';

(() => {
  const HTML = document.documentElement.namespaceURI;
  const SVG = document.getElementById('chart').content.firstElementChild.namespaceURI;
  const NUMBER = /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?(?=\s|$)/i;
  const ABSENT = new Set(['', 'missing', 'nan', 'not reached by half']);
  const BOX = { left: 48, right: 352, top: 28, bottom: 196 };
  const UNITS = { accuracy: 'accuracy (fraction)', loss: 'loss (nats)' };
  const words = new Intl.Collator('en', { numeric: true });
  const drawn = new Map(); /* from a trial's row to the row of its curves */

  function make(space, tag, attributes, ...children) {
    const made = document.createElementNS(space, tag);
    for (const [name, value] of Object.entries(attributes)) {
      made.setAttribute(name, value);
    }
    made.append(...children);
    return made;
  }

  const cellText = (cell) => (cell.firstChild ? cell.firstChild.textContent : '');

  function place(table, rows) {
    const body = new DocumentFragment();
    for (const row of rows) {
      body.append(row, ...(drawn.has(row) ? [drawn.get(row)] : []));
    }
    table.tBodies[0].replaceChildren(body);
  }

  /* What is missing stands last, both ways; equals keep the page's order. */
  function sortBy(table, rows, column) {
    const heads = [...table.tHead.rows[0].cells];
    const down = heads[column].getAttribute('aria-sort') === 'ascending';
    heads.forEach((head) => head.removeAttribute('aria-sort'));
    heads[column].setAttribute('aria-sort', down ? 'descending' : 'ascending');
    const texts = new Map(rows.map((row) => [row, cellText(row.cells[column])]));
    const present = rows.filter((row) => !ABSENT.has(texts.get(row)));
    const absent = rows.filter((row) => ABSENT.has(texts.get(row)));
    const numeric = present.every((row) => NUMBER.test(texts.get(row)));
    const order = (a, b) => (numeric
      ? parseFloat(texts.get(a)) - parseFloat(texts.get(b))
      : words.compare(texts.get(a), texts.get(b)));
    present.sort(down ? (a, b) => order(b, a) : order);
    place(table, [...present, ...absent]);
  }

  function addFilter(table, rows) {
    const input = make(HTML, 'input', { type: 'search' });
    const count = make(HTML, 'output', {});
    let texts = null;
    input.addEventListener('input', () => {
      texts ??= rows.map((row) => (
        [...row.cells].map((cell) => cell.textContent).join(' ').toLowerCase()));
      const sought = input.value.toLowerCase().split(/\s+/);
      let left = 0;
      rows.forEach((row, i) => {
        row.hidden = !sought.every((word) => texts[i].includes(word));
        if (drawn.has(row)) drawn.get(row).hidden = row.hidden;
        left += row.hidden ? 0 : 1;
      });
      count.value = `${left} of ${rows.length} rows`;
    });
    const label = make(HTML, 'label', { class: 'filter' }, 'Filter ', input, ' ', count);
    table.closest('.scroll').before(label);
  }

  function addSorting(table, rows) {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = make(HTML, 'button', { type: 'button' }, ...head.childNodes);
      button.addEventListener('click', () => sortBy(table, rows, column));
      head.append(button);
    });
  }

  function ticks(low, high, least) {
    const rough = (high - low) / 6;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = Math.max(least, power * [1, 2, 5, 10].find((n) => n * power >= rough));
    const found = [];
    for (let i = Math.ceil(low / step); i * step <= high; i += 1) found.push(i * step);
    return found;
  }

  const brief = (value) => (Math.abs(value) < 1e6
    ? String(Number(value.toPrecision(4))) : value.toExponential(1));
  const wide = (low, high) => (low < high ? [low, high] : [low - 0.5, high + 0.5]);

  /* One panel: the lines of all splits by epoch; `null` leaves a gap. */
  function chart(kind, epochs, lines) {
    const known = lines.flatMap((line) => line.values.filter((v) => v !== null));
    const log = Math.min(...known) > 0 && Math.max(...known) > 1e3 * Math.min(...known);
    const scaled = log ? Math.log10 : (value) => value;
    const [low, high] = wide(scaled(Math.min(...known)), scaled(Math.max(...known)));
    const [first, last] = wide(epochs[0], epochs[epochs.length - 1]);
    const across = (e) => (
      BOX.left + ((e - first) / (last - first)) * (BOX.right - BOX.left));
    const up = (v) => BOX.bottom - ((v - low) / (high - low)) * (BOX.bottom - BOX.top);
    const ends = lines.map((line) => (
      `${line.split} ${brief(line.values.findLast((v) => v !== null))}`));
    const svg = make(SVG, 'svg', {
      viewBox: '0 0 360 236', role: 'img', 'aria-label':
        `${UNITS[kind]} by epoch, at the end: ${ends.join(', ')}`,
    });
    const write = (x, y, anchor, text) => svg.append(
      make(SVG, 'text', { x, y, 'text-anchor': anchor }, text));
    for (const tick of ticks(low, high, log ? 1 : 0)) {
      const d = `M${BOX.left} ${up(tick)}H${BOX.right}`;
      svg.append(make(SVG, 'path', { d, class: 'rule' }));
      write(BOX.left - 6, up(tick) + 4, 'end', log ? `1e${tick}` : brief(tick));
    }
    for (const tick of ticks(first, last, 1)) {
      write(across(tick), BOX.bottom + 16, 'middle', String(tick));
    }
    const floor = `M${BOX.left} ${BOX.bottom}H${BOX.right}`;
    svg.append(make(SVG, 'path', { d: floor, class: 'floor' }));
    write((BOX.left + BOX.right) / 2, BOX.bottom + 34, 'middle', 'epoch');
    write(4, 14, 'start', UNITS[kind] + (log ? ', log scale' : ''));
    for (const { split, values } of lines) {
      let gap = true;
      const d = values.map((value, i) => {
        const point = value === null ? '' : (
          `${across(epochs[i]).toFixed(1)} ${up(scaled(value)).toFixed(1)}`);
        const part = point && (gap ? `M${point}h0` : `L${point}`);
        gap = !point;
        return part;
      }).join('');
      svg.append(make(SVG, 'path', { d, class: `line ${split}` }));
    }
    return svg;
  }

  function legend(splits) {
    return make(HTML, 'p', { class: 'note' }, ...splits.flatMap((split) => [
      make(SVG, 'svg', { viewBox: '0 0 30 8', class: 'key', 'aria-hidden': 'true' },
        make(SVG, 'path', { d: 'M1 4H29', class: `line ${split}` })),
      ` ${split}  `,
    ]));
  }

  function draw(table, row, [at, ...values], { epochs, metrics }) {
    const lines = metrics.map((metric, i) => ({
      split: metric.split('_')[0], kind: metric.split('_')[1], values: values[i],
    })).filter((line) => line.values);
    const heads = [...table.tHead.rows[0].cells].map((head) => head.textContent);
    const said = heads.slice(0, heads.indexOf('status')).map(
      (head, column) => `${head} ${cellText(row.cells[column])}`);
    const charts = Object.keys(UNITS).map((kind) => (
      [kind, lines.filter((line) => line.kind === kind)]
    )).filter(([, own]) => own.length).map(([kind, own]) => chart(kind, epochs[at], own));
    const panel = make(HTML, 'div', { class: 'charts' },
      make(HTML, 'p', {}, said.join(', ')), ...charts,
      legend([...new Set(lines.map((line) => line.split))]));
    const cell = make(HTML, 'td', { colspan: heads.length }, panel);
    return make(HTML, 'tr', { class: 'curves' }, cell);
  }

  function addCurves(table, rows, data) {
    const own = new Map(rows.map((row, i) => [row, data.trials[i]]));
    for (const row of rows.filter((each) => own.get(each))) {
      const button = make(HTML, 'button', { type: 'button', 'aria-expanded': false });
      button.append(...row.cells[0].childNodes);
      row.cells[0].append(button);
      row.classList.add('opens');
    }
    table.tBodies[0].addEventListener('click', (event) => {
      const row = event.target.closest('tr');
      if (!own.get(row)) return;
      const open = !drawn.has(row);
      if (open) {
        drawn.set(row, draw(table, row, own.get(row), data));
        row.after(drawn.get(row));
      } else {
        drawn.get(row).remove();
        drawn.delete(row);
      }
      row.querySelector('button').setAttribute('aria-expanded', open);
    });
  }

  for (const table of document.querySelectorAll('table')) {
    const rows = [...table.tBodies[0].rows];
    addFilter(table, rows);
    addSorting(table, rows);
    if (table.closest('#trials')) {
      addCurves(table, rows, JSON.parse(document.getElementById('curves').textContent));
    }
  }
  document.querySelectorAll('.scripted').forEach((note) => { note.hidden = false; });
})();
