"use strict";
(() => {
  const form = document.getElementById("filters");
  if (!form) return;
  const all = (what, within = document) => [...within.querySelectorAll(what)];
  const body = document.querySelector("tbody"), rows = all("tr", body);
  const byId = new Map(rows.map(row => [row.dataset.id, row]));
  const heads = all("thead th"), labels = heads.map(head => head.textContent.trim());
  const plots = all(".plot").map(figure => ({
    figure, svg: figure.querySelector("svg"), front: figure.querySelector(".front"),
    signs: [+figure.dataset.betterX, +figure.dataset.betterY],
    worst: figure.dataset.worst.split(" "),
    marks: all(".mark", figure).map(path => {
      const [x, y] = path.getAttribute("transform").match(/[\d.]+/g).map(Number);
      return { path, x, y, row: byId.get(path.dataset.id) };
    }),
  }));
  const tip = document.getElementById("tip"), chosen = document.getElementById("chosen");
  const command = row => row.querySelector("code").textContent;
  const figures = row => [...row.cells].slice(1, -1).map((cell, n) => [labels[n + 1], cell.textContent]);

  // As synth/plot.py has it, on what is shown.
  function drawFront(plot) {
    const [sx, sy] = plot.signs;
    const shown = plot.marks.filter(mark => !mark.row.hidden)
      .sort((a, b) => sx * (a.x - b.x) || sy * (a.y - b.y));
    let best = Infinity, path = "";
    for (const { x, y } of shown) {
      if (sy * y >= best) continue;
      best = sy * y;
      path ||= `M${x} ${plot.worst[1]}`;
      path += `H${x}V${y}`;
    }
    plot.front.setAttribute("d", path && `${path}H${plot.worst[0]}`);
  }

  function filter() {
    const wanted = {};
    for (const box of all("input[type=checkbox]", form)) {
      (wanted[box.name] ??= new Set());
      if (box.checked) wanted[box.name].add(box.value);
    }
    for (const row of rows)
      row.hidden = !Object.entries(wanted).every(([name, values]) => values.has(row.dataset[name]));
    const against = form.elements.against?.value;
    for (const plot of plots) {
      for (const mark of plot.marks) mark.path.style.display = mark.row.hidden ? "none" : "";
      const ring = plot.svg.querySelector(".ring");
      if (ring) ring.style.display = byId.get(ring.dataset.id).hidden ? "none" : "";
      const isError = ["error", "layer_error"].includes(plot.figure.dataset.y);
      plot.figure.hidden = isError && plot.figure.dataset.y !== against;
      drawFront(plot);
    }
    const count = rows.filter(row => !row.hidden).length;
    document.getElementById("count").textContent = `${count} of ${rows.length} shown`;
  }

  function sort(head) {
    const column = heads.indexOf(head);
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const isNumber = head.querySelector("button").dataset.kind === "number";
    const value = row => row.cells[column].dataset.value ?? row.cells[column].textContent;
    const order = (a, b) => isNumber ? a - b : a.localeCompare(b);
    const sorted = [...rows].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === "" || y === "") return (x === "") - (y === "");  // what has none comes last
      return down ? order(y, x) : order(x, y);
    });
    body.append(...sorted);
  }

  function choose(row, scroll) {
    for (const other of rows) {
      other.classList.toggle("chosen", other === row);
      other.querySelector(".name").setAttribute("aria-pressed", other === row);
    }
    for (const plot of plots) {
      plot.svg.querySelector(".ring")?.remove();
      const mark = plot.marks.find(mark => mark.row === row);
      if (!mark) continue;
      const ring = document.createElementNS("http://www.w3.org/2000/svg", "circle");
      for (const [name, value] of Object.entries({ class: "ring", r: 11, cx: mark.x, cy: mark.y, "data-id": row.dataset.id }))
        ring.setAttribute(name, value);
      plot.svg.append(ring);
      mark.path.parentNode.append(mark.path);
    }
    const list = document.createElement("dl");
    for (const [term, text] of figures(row)) {
      const pair = document.createElement("div"), dt = document.createElement("dt"), dd = document.createElement("dd");
      [dt.textContent, dd.textContent] = [term, text];
      pair.append(dt, dd);
      list.append(pair);
    }
    const title = document.createElement("h2"), text = document.createElement("pre"), copy = document.createElement("button");
    [title.textContent, text.textContent, copy.textContent] = [row.dataset.id, command(row), "Copy the command"];
    [copy.className, copy.type] = ["copy", "button"];
    copy.addEventListener("click", () => put(copy, text));
    chosen.replaceChildren(title, list, text, copy);
    if (scroll) {
      const box = row.closest(".box");
      box.scrollTop = row.offsetTop - box.clientHeight / 2;
    }
  }

  async function put(button, text) {
    const before = button.textContent;
    try {
      await navigator.clipboard.writeText(text.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(text);  // the browser forbids it: the user's own copy does
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = before; }, 1500);
  }

  function nearest(plot, event) {
    const box = plot.svg.getBoundingClientRect(), scale = box.width / plot.svg.viewBox.baseVal.width;
    let found = null, least = 24;  // pixels of the screen: a finger's reach
    for (const mark of plot.marks) {
      if (mark.row.hidden) continue;
      const far = Math.hypot(box.left + scale * mark.x - event.clientX, box.top + scale * mark.y - event.clientY);
      if (far < least) [found, least] = [mark, far];
    }
    return found;
  }

  function showTip(mark, event) {
    tip.hidden = !mark;
    if (!mark) return;
    const name = document.createElement("b");
    name.textContent = mark.row.dataset.id;
    tip.replaceChildren(name, ...figures(mark.row).map(([term, text]) => {
      const line = document.createElement("span");
      line.textContent = `${term}: ${text}`;
      return line;
    }));
    const { width, height } = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - width - 4))}px`;
    tip.style.top = `${event.clientY + 14 + height < innerHeight ? event.clientY + 14 : Math.max(4, event.clientY - height - 14)}px`;
  }

  form.addEventListener("change", filter);
  form.addEventListener("submit", event => event.preventDefault());
  for (const head of heads) head.querySelector("button")?.addEventListener("click", () => sort(head));
  body.addEventListener("click", event => {
    const row = event.target.closest("tr");
    if (event.target.closest(".copy")) put(event.target.closest(".copy"), row.querySelector("code"));
    else choose(row, false);
  });
  for (const plot of plots) {
    plot.svg.addEventListener("pointermove", event => {
      if (event.pointerType === "mouse") showTip(nearest(plot, event), event);
    });
    plot.svg.addEventListener("pointerleave", () => { tip.hidden = true; });
    plot.svg.addEventListener("click", event => {
      const mark = nearest(plot, event);
      if (mark) choose(mark.row, true);
    });
  }
  filter();
})();
