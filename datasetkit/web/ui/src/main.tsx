/** The entry point of the page. */

import { createRoot } from "react-dom/client";
import { connect } from "./api";
import { App } from "./App";
import "./page.css";
import { Review } from "./review";
import { startTheme } from "./theme";

const review = new Review(connect());
if (innerWidth < 1200) review.store.set({ panelOpen: false });
startTheme(review);
const root = document.getElementById("root");
if (root) createRoot(root).render(<App review={review} />);
void review.start();
