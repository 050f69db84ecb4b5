// A link to a folded pair opens it.
const unfold = () => {
  const meant = location.hash && document.getElementById(location.hash.slice(1));
  if (meant && meant.tagName === "DETAILS") meant.open = true;
};
addEventListener("hashchange", unfold);
unfold();

// Searching the tree of names. Without scripts the field stays hidden, and the tree works as it is.
for (const search of document.querySelectorAll(".search")) {
  const tree = document.getElementById(search.dataset.tree);
  const field = search.querySelector("input");
  const found = search.querySelector("output");
  const items = [...tree.querySelectorAll("li")];
  const folds = [...tree.querySelectorAll("details")];
  const texts = items.map((item) => {
    const own = item.querySelector(":scope > .names, :scope > details > summary");
    return (own || item).textContent.toLowerCase();
  });
  const open = folds.map((fold) => fold.open);
  search.hidden = false;
  field.addEventListener("input", () => {
    const wanted = field.value.trim().toLowerCase();
    if (!wanted) {
      items.forEach((item) => { item.hidden = false; });
      folds.forEach((fold, position) => { fold.open = open[position]; });
      found.textContent = "";
      return;
    }
    let hits = 0;
    items.forEach((item) => { item.hidden = true; });
    items.forEach((item, position) => {
      if (!texts[position].includes(wanted)) return;
      hits += 1;
      item.querySelectorAll("li").forEach((inner) => { inner.hidden = false; });
      for (let place = item; place && place !== tree; place = place.parentElement) {
        if (place.tagName === "LI") place.hidden = false;
        if (place.tagName === "DETAILS" && place.parentElement !== item) place.open = true;
      }
    });
    found.textContent = hits === 1 ? "1 name found" : `${hits} names found`;
  });
}
