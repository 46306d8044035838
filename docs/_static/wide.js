// On a narrow screen a wide picture scrolls on its own, at a size at which its labels can be read.
for (const picture of document.querySelectorAll(".bd-article section > img, .bd-article .sphx-glr-single-img")) {
  const box = document.createElement("div");
  box.className = "wide-picture";
  picture.replaceWith(box);
  box.append(picture);
}
