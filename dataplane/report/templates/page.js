"use strict";
(() => {
  const PAGE = 100;
  const island = (node) => JSON.parse(node.textContent);
  const make = (name, attributes = {}, ...children) => {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (value === true) node.setAttribute(key, "");
      else if (value !== false && value !== null) node.setAttribute(key, value);
    }
    node.append(...children);
    return node;
  };

  // ---- charts ----

  const PAPER = 680;
  const narrow = matchMedia("(max-width: 46rem)");
  const printing = matchMedia("print");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const charts = [...document.querySelectorAll("script.figure")].map((node) => ({
    place: document.getElementById(node.dataset.chart),
    figure: node.textContent,
  }));

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

  function draw({ place, figure }) {
    const { data, layout } = JSON.parse(figure, (_, value) =>
      typeof value === "string" && /^@[a-z0-9-]+$/.test(value) ? colour(value.slice(1)) : value);
    const axis = { gridcolor: colour("line"), linecolor: colour("line"), zerolinecolor: colour("line"), tickcolor: colour("line") };
    for (const name of ["xaxis", "yaxis"]) {
      layout[name] = { ...axis, fixedrange: narrow.matches, automargin: true, ...layout[name] };
      if (narrow.matches) Object.assign(layout[name], { tickangle: 0, nticks: 5 });
    }
    Object.assign(layout, {
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: colour("ink") },
      margin: { l: 8, r: 8, t: layout.showlegend ? 56 : 24, b: 8 },
      legend: { orientation: "h", x: 0, y: 1 + 24 / Math.max(60, layout.height - 110), yanchor: "bottom", traceorder: "normal" },
      hoverlabel: { bgcolor: colour("panel"), bordercolor: colour("line"), font: { color: colour("ink") } },
      width: printing.matches ? PAPER : undefined,
      dragmode: narrow.matches ? false : "zoom",
    });
    return Plotly.react(place, data, layout, { displayModeBar: false, responsive: true });
  }

  const drawAll = () => Promise.all(charts.map(draw));

  // ---- light and dark ----

  const theme = document.getElementById("theme");
  const themes = ["system", "light", "dark"];
  let chosen = 0;
  theme.hidden = false;
  theme.addEventListener("click", () => {
    chosen = (chosen + 1) % themes.length;
    if (chosen) document.documentElement.dataset.theme = themes[chosen];
    else delete document.documentElement.dataset.theme;
    theme.textContent = `Theme: ${chosen ? themes[chosen] : "as the system"}`;
    drawAll();
  });
  dark.addEventListener("change", drawAll);
  narrow.addEventListener("change", drawAll);
  printing.addEventListener("change", drawAll);

  // ---- tables ----

  const numbers = new Intl.NumberFormat("en-US");
  const size = (value) => {
    for (const unit of ["B", "kB", "MB", "GB"]) {
      if (value < 1000) return unit === "B" ? `${value} B` : `${Number(value.toPrecision(3))} ${unit}`;
      value /= 1000;
    }
    return `${Number(value.toPrecision(3))} TB`;
  };
  const written = {
    text: (value, texts) => texts[value],
    word: (value, texts) => texts[value],
    number: (value) => (value === null ? "" : numbers.format(value)),
    bytes: (value) => (value === null ? "" : size(value)),
    seconds: (value) => (value === null ? "" : value.toFixed(3)),
  };
  const isText = ({ kind }) => kind === "text" || kind === "word";
  const looks = { allow: "allow-word", passed: "allow-word", deny: "deny-word", failed: "deny-word", error: "deny-word" };

  function searched(node) {
    const { things, columns, rows, stories, texts, command, numbers: numbered } = island(node);
    const place = document.getElementById(node.dataset.table);
    const haystack = rows.map((row, at) =>
      [...row.filter((_, i) => isText(columns[i])), ...stories[at]].map((text) => texts[text]).join("\n").toLowerCase());
    const open = new Set();
    const wanted = new Map();
    let order = rows.map((_, at) => at);
    let sortedBy = null, descending = false, shown = PAGE, text = "";

    const search = make("input", { type: "search", placeholder: "words of a line or its story" });
    const asked = make("div", { class: "asked" }, make("label", { class: "search" }, `Search ${things}`, search));
    columns.forEach((column, i) => {
      if (!column.choice) return;
      const words = [...new Set(rows.map((row) => texts[row[i]]))].sort();
      const select = make("select", {}, make("option", { value: "" }, "all"),
        ...words.map((word, number) => make("option", { value: String(number + 1) }, word || "(none)")));
      select.addEventListener("change", () => {
        if (select.value) wanted.set(i, words[Number(select.value) - 1]);
        else wanted.delete(i);
        shown = PAGE;
        fill();
      });
      asked.append(make("label", {}, column.name, select));
    });
    const clear = make("button", { type: "button" }, "Clear");
    asked.append(clear);

    const heads = columns.map((column, i) => {
      const button = make("button", { type: "button" }, column.name);
      const head = make("th", { scope: "col", class: `${column.kind}${column.spare ? " spare" : ""}`, "aria-sort": "none" }, button);
      button.addEventListener("click", () => {
        descending = sortedBy === i ? !descending : !isText(column);
        sortedBy = i;
        heads.forEach((other, j) => other.setAttribute("aria-sort", j !== i ? "none" : descending ? "descending" : "ascending"));
        sort();
        fill();
      });
      return head;
    });
    const body = make("tbody");
    const count = make("p", { class: "more", role: "status" });
    const more = make("button", { type: "button", class: "more-rows", hidden: true }, `Show ${PAGE * 2} more`);
    more.addEventListener("click", () => { shown += PAGE * 2; fill(); });
    const table = make("table", { "aria-label": things }, make("thead", {}, make("tr", {}, ...heads)), body);
    place.append(asked, count, make("div", { class: "wide", role: "region", "aria-label": things, tabindex: "0" }, table), more);

    function sort() {
      const words = isText(columns[sortedBy]), sign = descending ? -1 : 1;
      const value = (at) => (words ? texts[rows[at][sortedBy]] : rows[at][sortedBy] ?? -Infinity);
      const compare = words
        ? (a, b) => value(a).localeCompare(value(b), "en", { numeric: true })
        : (a, b) => value(a) - value(b);
      order = rows.map((_, at) => at).sort((a, b) => sign * compare(a, b) || a - b);
    }

    function storyRow(at) {
      const told = stories[at].map((number) => texts[number]);
      const lines = told.map((line) => make("li", {}, line));
      if (command) lines.push(make("li", {}, "More: ", make("code", {}, `${command} ${numbered[at]}`)));
      return make("tr", { class: "story", id: `${place.id}-story-${at}` },
        make("td", { colspan: columns.length }, make("ul", {}, ...lines)));
    }

    function tableRow(at) {
      const cells = columns.map((column, i) => {
        const value = written[column.kind](rows[at][i], texts);
        const cell = make("td", { class: `${column.kind}${column.spare ? " spare" : ""}` });
        if (i === 0 && stories[at].length) {
          const button = make("button", { type: "button", class: "open", "aria-expanded": String(open.has(at)) }, value || "(none)");
          if (open.has(at)) button.setAttribute("aria-controls", `${place.id}-story-${at}`);
          button.addEventListener("click", () => {
            if (open.has(at)) {
              open.delete(at);
              button.removeAttribute("aria-controls");
              row.nextSibling.remove();
            } else {
              open.add(at);
              button.setAttribute("aria-controls", `${place.id}-story-${at}`);
              row.after(storyRow(at));
            }
            button.setAttribute("aria-expanded", String(open.has(at)));
          });
          cell.append(button);
        } else if (column.choice && looks[value]) cell.append(make("span", { class: looks[value] }, value));
        else cell.append(value);
        return cell;
      });
      const row = make("tr", { class: "row" }, ...cells);
      return row;
    }

    function fill() {
      const words = text.toLowerCase().split(/\s+/).filter(Boolean);
      const found = order.filter((at) =>
        words.every((word) => haystack[at].includes(word)) &&
        [...wanted].every(([i, word]) => texts[rows[at][i]] === word));
      const part = found.slice(0, shown);
      body.replaceChildren(...part.flatMap((at) => (open.has(at) ? [tableRow(at), storyRow(at)] : [tableRow(at)])));
      more.hidden = part.length === found.length;
      const all = found.length === rows.length ? numbers.format(rows.length) : `${numbers.format(found.length)} of ${numbers.format(rows.length)}`;
      count.textContent = `${all} ${things}${more.hidden ? "" : `, the first ${numbers.format(part.length)} are shown`}`;
    }

    let waiting = 0;
    search.addEventListener("input", () => {
      clearTimeout(waiting);
      waiting = setTimeout(() => { text = search.value; shown = PAGE; fill(); }, 80);
    });
    clear.addEventListener("click", () => {
      clearTimeout(waiting);
      search.value = text = "";
      wanted.clear();
      asked.querySelectorAll("select").forEach((select) => { select.value = ""; });
      shown = PAGE;
      fill();
      search.focus();
    });
    fill();
  }

  document.querySelectorAll("script.rows").forEach(searched);
  (charts.length ? drawAll() : Promise.resolve()).then(() => { document.documentElement.dataset.ready = "true"; });
})();
