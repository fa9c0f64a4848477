/** The entry point: the studio with all tabs, or the review page alone, as the server says. */

import { createRoot } from "react-dom/client";
import type { Session } from "./api";
import { Http } from "./http";
import { startLanguage } from "./i18n";
import "./page.css";
import "./studio.css";
import { Fatal } from "./studio/Fatal";
import type { StudioSession } from "./studio/api";
import { startRoutes } from "./studio/route";
import { Shell } from "./studio/Shell";
import { Studio } from "./studio/studio";
import { startTheme } from "./theme";

const http = new Http();
startTheme();
const element = document.getElementById("root");
if (element) void start(createRoot(element));

async function start(root: ReturnType<typeof createRoot>): Promise<void> {
  // Most likely needed, and loaded while the server responds.
  const captions = import("./tabs/captions");
  let session: StudioSession;
  try {
    session = await http.get<StudioSession>("api/session");
  } catch (error) {
    root.render(<Fatal error={error} retry={() => void start(root)} />);
    return;
  }
  http.token = session.token;
  await startLanguage();
  if (session.command !== "studio") {
    const { startReview } = await captions;
    startReview(root, http, session as unknown as Session);
    return;
  }
  document.title = `${session.name} · studio`;
  startRoutes("images");
  const studio = new Studio(http, session);
  root.render(<Shell studio={studio} />);
  void studio.start();
}
