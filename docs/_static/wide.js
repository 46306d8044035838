// On a narrow screen a wide picture scrolls on its own, at a size at which its labels can be read.
for (const picture of document.querySelectorAll(".bd-article section > img, .bd-article .sphx-glr-single-img")) {
  const box = document.createElement("div");
  box.className = "wide-picture";
  picture.replaceWith(box);
  box.append(picture);
}

// Dotted names may be broken at their dots, and not in the middle of a word.
for (const name of document.querySelectorAll(".bd-article h1, .prev-next-title")) {
  const text = name.firstChild;
  if (text?.nodeType !== Node.TEXT_NODE) continue;
  const parts = text.data.split(/(?<=[a-z]\.)(?=[a-zA-Z])/);
  text.replaceWith(...parts.flatMap((part) => [part, document.createElement("wbr")]).slice(0, -1));
}
