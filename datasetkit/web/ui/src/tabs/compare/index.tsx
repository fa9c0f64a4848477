/** The tab Compare: which epoch to keep, judged by images, with the measures beside them. */

import { useCallback, useEffect, useState } from "react";
import { isMissing } from "../../http";
import { t } from "../../i18n";
import { EmptyState } from "../../parts/EmptyState";
import { WorkArea } from "../../parts/WorkArea";
import { Loading } from "../../parts/Loading";
import { useStudio, useStudioState } from "../../studio/context";
import { type GridList, loadGrid, loadGrids } from "./api";
import "./compare.css";
import { CompareView } from "./CompareView";
import { DrawDialog } from "./DrawDialog";
import type { Grid } from "./shapes";

/** What was shown last: it is there again on return. */
let last: { list: GridList | null; grid: Grid | null } = { list: null, grid: null };

export default function Compare() {
  const studio = useStudio();
  const project = useStudioState((state) => state.project);
  const [list, setList] = useState(last.list);
  const [grid, setGrid] = useState(last.grid);
  const [drawing, setDrawing] = useState(false);
  last = { list, grid };

  const choose = useCallback(
    async (id: string) => {
      try {
        setGrid(await loadGrid(studio.http, id));
      } catch (error) {
        studio.fail(error);
      }
    },
    [studio],
  );
  const load = useCallback(async () => {
    try {
      const loaded = await loadGrids(studio.http);
      setList(loaded);
      const shown = loaded.grids.find((entry) => entry.id === last.grid?.id) ?? loaded.grids[0];
      if (shown) await choose(shown.id);
      else setGrid(null);
    } catch (error) {
      setList({ grids: [], runs: [] });
      if (!isMissing(error)) studio.fail(error);
    }
  }, [studio, choose]);
  // The project's facts change when files do.
  useEffect(() => void load(), [load, project]);

  if (list === null) return <Loading />;
  const dialog = drawing ? (
    <DrawDialog runs={list.runs} grid={grid} close={() => setDrawing(false)} />
  ) : null;
  if (grid === null) {
    return (
      <WorkArea>
        <EmptyState
          title={t("compare.empty")}
          hint={list.runs.length ? t("compare.empty.draw") : t("compare.empty.hint")}
          question={t("compare.question")}
          answer={t("compare.answer")}
        >
          {list.runs.length ? (
            <button type="button" className="primary" onClick={() => setDrawing(true)}>
              {t("compare.draw")}
            </button>
          ) : null}
        </EmptyState>
        {dialog}
      </WorkArea>
    );
  }
  return (
    <>
      <CompareView
        key={grid.id}
        grid={grid}
        grids={list.grids}
        canDraw={list.runs.length > 0}
        choose={(id) => void choose(id)}
        draw={() => setDrawing(true)}
        reload={load}
        setMarks={(marks) => setGrid({ ...grid, marks })}
      />
      {dialog}
    </>
  );
}
