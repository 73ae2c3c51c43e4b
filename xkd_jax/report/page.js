"use strict";
// Charts with hover and zoom, players of frames, and tabs, without any library. The element "charts"
// holds the charts as JSON; see charts.py.
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const charts = JSON.parse(document.getElementById("charts").textContent);

  function make(parent, name, attributes = {}, text) {
    const node = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    parent.append(node);
    return node;
  }
  function add(parent, name, properties = {}) {
    const node = Object.assign(document.createElement(name), properties);
    parent.append(node);
    return node;
  }
  const color = (n) => (n < 10 ? `var(--c${n})` : `hsl(${(n * 137.5) % 360} 50% 55%)`);
  const say = (v) => (v === null || v === undefined ? "–" : Math.abs(v) >= 1e5 || (v !== 0 && Math.abs(v) < 1e-3)
    ? v.toExponential(2) : String(Number(v.toPrecision(4))));

  // Returns about `count` round numbers from low to high.
  function ticks(low, high, count) {
    const rough = (high - low) / count || 1;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((f) => f * power).find((s) => s >= rough * 0.999);
    const values = [];
    for (let v = Math.ceil(low / step - 1e-9) * step; v <= high + step * 1e-9; v += step) values.push(Number(v.toPrecision(12)));
    return values;
  }

  const groups = new Map(); // charts that zoom together, by the name of their group

  function plot(host, title) {
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", title);
    host.append(svg);
    const legend = add(host, "div", { className: "legend" });
    const tip = add(host, "div", { className: "tip", hidden: true });
    return { svg, legend, tip };
  }

  // Adds a button for each of several names, which shows or hides it; returns the hidden numbers.
  function switches(legend, names, draw) {
    const hidden = new Set();
    if (names.length > 1) names.forEach((name, n) => {
      const button = add(legend, "button", { type: "button", textContent: name, title: "show or hide" });
      button.style.setProperty("--c", color(n));
      button.setAttribute("aria-pressed", "true");
      button.onclick = () => {
        hidden.has(n) ? hidden.delete(n) : hidden.add(n);
        button.setAttribute("aria-pressed", String(!hidden.has(n)));
        draw();
      };
    });
    return hidden;
  }

  function lineChart(host, spec) {
    const head = add(host, "div", { className: "head" });
    add(head, "h3", { textContent: spec.title });
    const logButton = add(head, "button", { textContent: "log", type: "button", title: "logarithmic scale" });
    const reset = add(head, "button", { textContent: "reset zoom", type: "button", hidden: true });
    const { svg, legend, tip } = plot(host, spec.title);
    const full = [spec.x[0], spec.x[spec.x.length - 1]];
    if (full[0] === full[1]) { full[0] -= 0.5; full[1] += 0.5; }
    let range = [...full];
    let log = spec.log;
    const height = 210, top = 16, bottom = 36, left = 48, right = 8;
    let width = 0, scale = null, drag = null;

    const positive = spec.series.some((s) => s.y.some((v) => v > 0));
    logButton.hidden = !positive;
    const hidden = switches(legend, spec.series.map((s) => s.name), draw);
    logButton.onclick = () => { log = !log; draw(); };
    reset.onclick = () => zoom(full);

    function zoom(wanted) {
      const together = spec.group ? groups.get(spec.group) : [view];
      together.forEach((other) => other.show(wanted));
    }
    const view = {
      show(wanted) {
        const low = Math.max(full[0], wanted[0]), high = Math.min(full[1], wanted[1]);
        range = high > low ? [low, high] : [...full];
        reset.hidden = range[0] === full[0] && range[1] === full[1];
        draw();
      },
    };
    if (spec.group) groups.set(spec.group, [...(groups.get(spec.group) || []), view]);

    function draw() {
      width = host.clientWidth || 320;
      svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
      svg.setAttribute("height", height);
      svg.replaceChildren();
      logButton.setAttribute("aria-pressed", String(log));
      const inside = spec.x.map((x) => x >= range[0] && x <= range[1]);
      let low = Infinity, high = -Infinity;
      spec.series.forEach((s, n) => {
        if (!hidden.has(n)) s.y.forEach((v, i) => {
          if (v !== null && inside[i] && (!log || v > 0)) { low = Math.min(low, v); high = Math.max(high, v); }
        });
      });
      if (low > high) { low = 0; high = 1; }
      const f = log ? Math.log10 : (v) => v;
      let a = f(low), b = f(high);
      const room = (b - a) * 0.06 || Math.abs(b) * 0.1 || 0.5;
      const flat = b - a < 1e-12;
      a = !log && !flat && low >= 0 && a - room < 0 ? 0 : a - room;
      b = spec.highest === null ? b + room : Math.min(b + room, f(Math.max(high, spec.highest)));
      const X = (x) => left + ((x - range[0]) / (range[1] - range[0])) * (width - left - right);
      const Y = (v) => top + (1 - (f(v) - a) / (b - a)) * (height - top - bottom);
      scale = { X, Y };
      let labels;
      if (log) {
        labels = [];
        for (let e = Math.floor(a); e <= Math.ceil(b); e++) for (const m of b - a < 1.5 ? [1, 2, 5] : [1]) labels.push(m * 10 ** e);
        labels = labels.filter((v) => f(v) >= a && f(v) <= b);
      } else labels = ticks(a, b, 4);
      labels.forEach((v) => {
        make(svg, "line", { class: "axis", x1: left, x2: width - right, y1: Y(v), y2: Y(v) });
        make(svg, "text", { x: left - 5, y: Y(v) + 4, "text-anchor": "end" }, say(v));
      });
      ticks(range[0], range[1], Math.max(2, Math.floor(width / 70))).forEach((x) =>
        make(svg, "text", { x: X(x), y: height - bottom + 15, "text-anchor": X(x) > width - 24 ? "end" : "middle" }, say(x)));
      make(svg, "text", { x: width - right, y: height - 4, "text-anchor": "end" }, spec.xLabel);
      spec.marks.filter((m) => m.x >= range[0] && m.x <= range[1]).forEach((m) => {
        const stroke = m.kind === "warning" ? "var(--collapsed)" : "var(--faint)";
        const line = make(svg, "g");
        make(line, "title", {}, m.text);
        make(line, "line", { class: `mark ${m.kind}`, x1: X(m.x), x2: X(m.x), y1: top, y2: height - bottom, style: `stroke:${stroke}` });
        make(line, "text", { x: X(m.x), y: 10, "text-anchor": "middle", style: `fill:${stroke}` }, m.kind === "warning" ? "▲" : "↻");
      });
      spec.series.forEach((s, n) => {
        if (hidden.has(n)) return;
        const runs = [[]];
        s.y.forEach((v, i) => { if (v !== null && inside[i] && (!log || v > 0)) runs[0].push([X(spec.x[i]), Y(v)]); });
        runs.filter((r) => r.length).forEach((r) => {
          if (r.length === 1) make(svg, "circle", { cx: r[0][0], cy: r[0][1], r: 3, style: `fill:${color(n)}` });
          else make(svg, "polyline", { class: "series", points: r.map((p) => p.map((v) => v.toFixed(1)).join(",")).join(" "), style: `fill:none;stroke:${color(n)};stroke-width:1.8` });
        });
      });
    }

    function nearest(event) {
      const box = svg.getBoundingClientRect();
      const px = ((event.clientX - box.left) / box.width) * width;
      const x = range[0] + ((px - left) / (width - left - right)) * (range[1] - range[0]);
      let best = 0;
      spec.x.forEach((v, i) => { if (Math.abs(v - x) < Math.abs(spec.x[best] - x)) best = i; });
      return { px, x: Math.min(Math.max(x, range[0]), range[1]), best };
    }
    function hover(event) {
      const { px, best } = nearest(event);
      svg.querySelectorAll(".cursor").forEach((node) => node.remove());
      make(svg, "line", { class: "cursor axis", x1: scale.X(spec.x[best]), x2: scale.X(spec.x[best]), y1: top, y2: height - bottom });
      tip.replaceChildren();
      add(tip, "b", { textContent: `${spec.xLabel} ${say(spec.x[best])}` });
      spec.series.forEach((s, n) => {
        if (hidden.has(n) || s.y[best] === null) return;
        const row = add(tip, "div");
        add(row, "i").style.background = color(n);
        row.append(`${s.name} ${say(s.y[best])}`);
      });
      const span = (range[1] - range[0]) / 40;
      spec.marks.filter((m) => Math.abs(m.x - spec.x[best]) <= span).forEach((m) => add(tip, "div", { textContent: `${m.kind === "warning" ? "▲" : "↻"} ${m.text}` }));
      tip.hidden = false;
      const place = scale.X(spec.x[best]);
      tip.style.top = "1.8rem";
      tip.style.left = place < width / 2 ? `${place + 10}px` : "auto";
      tip.style.right = place < width / 2 ? "auto" : `${width - place + 10}px`;
      if (drag !== null) {
        svg.querySelectorAll(".drag").forEach((node) => node.remove());
        make(svg, "rect", { class: "drag", x: Math.min(px, drag.px), width: Math.abs(px - drag.px), y: top, height: height - top - bottom, style: "fill:var(--accent);opacity:.2" });
      }
    }
    svg.addEventListener("pointermove", hover);
    svg.addEventListener("pointerdown", (event) => { drag = nearest(event); hover(event); });
    svg.addEventListener("pointerup", (event) => {
      const from = drag, to = nearest(event);
      drag = null;
      svg.querySelectorAll(".drag").forEach((node) => node.remove());
      if (from && Math.abs(to.px - from.px) > 12) zoom([Math.min(from.x, to.x), Math.max(from.x, to.x)]);
    });
    svg.addEventListener("pointerleave", () => { tip.hidden = true; drag = null; svg.querySelectorAll(".cursor, .drag").forEach((node) => node.remove()); });
    svg.addEventListener("dblclick", () => zoom(full));
    draw();
    new ResizeObserver(() => { if (host.clientWidth !== width) draw(); }).observe(host);
  }

  function scatterChart(host, spec) {
    const head = add(host, "div", { className: "head" });
    add(head, "h3", { textContent: spec.title });
    const { svg, legend, tip } = plot(host, spec.title);
    const hidden = switches(legend, spec.groupNames, draw);
    const xs = spec.points.map((p) => p[0]), ys = spec.points.map((p) => p[1]);
    const low = [Math.min(...xs), Math.min(...ys)], high = [Math.max(...xs), Math.max(...ys)];
    let places = [], width = 0;
    function draw() {
      width = host.clientWidth || 320;
      const height = Math.min(380, Math.max(260, width * 0.8)), edge = 12;
      svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
      svg.setAttribute("height", height);
      svg.replaceChildren();
      places = spec.points.map((p) => [
        edge + ((p[0] - low[0]) / (high[0] - low[0] || 1)) * (width - 2 * edge),
        edge + (1 - (p[1] - low[1]) / (high[1] - low[1] || 1)) * (height - 2 * edge)]);
      places.forEach(([x, y], i) => {
        if (hidden.has(spec.groups[i])) return;
        const style = `fill:${color(spec.groups[i])};fill-opacity:.85`;
        if (spec.kinds[i] === "audio") make(svg, "rect", { class: "point", x: x - 4, y: y - 4, width: 8, height: 8, style });
        else make(svg, "circle", { class: "point", cx: x, cy: y, r: 4.5, style });
      });
    }
    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect();
      const x = ((event.clientX - box.left) / box.width) * width, y = ((event.clientY - box.top) / box.width) * width;
      let best = -1, distance = 20 ** 2;
      places.forEach((p, i) => {
        const d = (p[0] - x) ** 2 + (p[1] - y) ** 2;
        if (d < distance && !hidden.has(spec.groups[i])) { best = i; distance = d; }
      });
      tip.hidden = best < 0;
      if (best < 0) return;
      tip.replaceChildren();
      const label = spec.groupNames[spec.groups[best]];
      if (spec.groupNames.length > 1) add(tip, "b", { textContent: label });
      add(tip, "div", { textContent: (spec.kinds[best] ? `${spec.kinds[best]} of ` : "") + spec.names[best] });
      tip.style.top = `${places[best][1] + 34}px`;
      tip.style.left = places[best][0] < width / 2 ? `${places[best][0] + 12}px` : "auto";
      tip.style.right = places[best][0] < width / 2 ? "auto" : `${width - places[best][0] + 12}px`;
    });
    svg.addEventListener("pointerleave", () => { tip.hidden = true; });
    draw();
    new ResizeObserver(() => { if (host.clientWidth !== width) draw(); }).observe(host);
  }

  document.querySelectorAll("[data-chart]").forEach((host) => {
    const spec = charts[host.dataset.chart];
    (spec.kind === "lines" ? lineChart : scatterChart)(host, spec);
  });

  // Tabs: a button shows the element [data-tab] of its value inside the same `.tabs`.
  document.querySelectorAll(".tabs").forEach((host) => {
    const buttons = host.querySelectorAll("button[data-show]");
    function show(value) {
      buttons.forEach((b) => b.setAttribute("aria-pressed", String(b.dataset.show === value)));
      host.querySelectorAll("[data-tab]").forEach((node) => {
        node.classList.toggle("shown", node.dataset.tab === value);
        if (node.dataset.tab !== value) node.querySelectorAll("audio").forEach((a) => a.pause());
      });
    }
    buttons.forEach((b) => { b.onclick = () => show(b.dataset.show); });
    if (buttons.length) show(host.dataset.first);
  });

  // Players: the image of each canvas is a vertical stack of square frames.
  document.querySelectorAll(".player").forEach((host) => {
    const count = Number(host.dataset.frames), rate = Number(host.dataset.rate);
    const button = host.querySelector("button[data-play]"), slider = host.querySelector("input[type=range]");
    const panels = [...host.querySelectorAll("canvas[data-src]")].map((canvas) => {
      const image = new Image();
      image.onload = () => draw();
      image.src = document.getElementById(canvas.dataset.src).src;
      return { canvas, image };
    });
    let frame = 0, playing = !matchMedia("(prefers-reduced-motion: reduce)").matches, visible = false;
    function draw() {
      panels.forEach(({ canvas, image }) => {
        if (!image.complete || !image.naturalWidth) return;
        const size = image.naturalHeight / count;
        if (canvas.width !== image.naturalWidth) { canvas.width = image.naturalWidth; canvas.height = size; }
        canvas.getContext("2d").drawImage(image, 0, frame * size, image.naturalWidth, size, 0, 0, canvas.width, canvas.height);
      });
      slider.value = frame;
      button.textContent = playing ? "❚❚ pause" : "▶ play";
    }
    button.onclick = () => { playing = !playing; draw(); };
    slider.oninput = () => { playing = false; frame = Number(slider.value); draw(); };
    new IntersectionObserver((entries) => { visible = entries[0].isIntersecting; }).observe(host);
    setInterval(() => {
      if (!playing || !visible) return;
      frame = (frame + 1) % count;
      draw();
    }, 1000 / rate);
    draw();
  });
})();
